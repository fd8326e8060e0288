"""NVIDIA pickles give their tensors and run nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from doppelgan.export.checkpoints.checkpoint import read_checkpoint
from doppelgan.export.checkpoints.nvidia_pickle import read_pickle
from doppelgan.runtime.errors import CheckpointError

from . import seeds


def test_tensors_come_back_under_their_state_dict_names(tmp_path: Path) -> None:
    state = seeds.nvidia()
    path = tmp_path / "ffhq.pkl"
    path.write_bytes(seeds.nvidia_pickle(state))
    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "NVIDIA stylegan2-ada"
    assert checkpoint.generator is not None
    assert set(checkpoint.generator) == set(state)
    assert all(torch.equal(checkpoint.generator[k], v) for k, v in state.items())
    assert checkpoint.conv_clamp is None


def test_clamp_comes_from_the_modules_attributes(tmp_path: Path) -> None:
    path = tmp_path / "metfaces.pkl"
    path.write_bytes(seeds.nvidia_pickle(seeds.nvidia(), conv_clamp=256))
    assert read_checkpoint(path).conv_clamp == 256


def test_embedded_source_is_never_executed(tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    path = tmp_path / "ffhq.pkl"
    path.write_bytes(seeds.nvidia_pickle(seeds.nvidia(), source=f"open({str(sentinel)!r}, 'w')"))
    read_checkpoint(path)
    assert not sentinel.exists()


class _Attack:
    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


@pytest.mark.parametrize("hidden", [False, True], ids=["at-the-top", "inside-a-generator"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, r"posix\.mkdir|nt\.mkdir"), (eval, r"builtins\.eval"), (open, r"_?io\.open")],
    ids=["os", "eval", "open"],
)
def test_a_pickle_that_tries_to_run_code_is_refused_and_does_not_run(
    tmp_path: Path, function: Any, name: str, hidden: bool
) -> None:
    sentinel = tmp_path / "ran"
    text = f"__import__('os').mkdir({str(sentinel)!r})" if function is eval else str(sentinel)
    attack = _Attack(function, text) if function is not open else _Attack(open, text, "w")
    path = tmp_path / "evil.pkl"
    path.write_bytes(
        seeds.nvidia_pickle(seeds.nvidia(), extra=attack) if hidden else pickle.dumps({"G_ema": attack})
    )
    with pytest.raises(
        CheckpointError, match=rf"evil\.pkl: expected .*names ({name}); nothing in it was run"
    ):
        read_checkpoint(path)
    assert not sentinel.exists()

    # The attack is real: an ordinary load runs it.
    path.write_bytes(pickle.dumps(attack))
    with path.open("rb") as file:
        result = pickle.load(file)
    getattr(result, "close", lambda: None)()
    assert sentinel.exists()


def test_a_torch_file_that_tries_to_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({"g_ema": seeds.rosinality(), "extra": _Attack(os.mkdir, str(sentinel))}, path)
    with pytest.raises(
        CheckpointError, match=r"got one with other objects \((posix|nt)\.mkdir\); nothing in it was run"
    ):
        read_checkpoint(path)
    assert not sentinel.exists()


def test_a_tensorflow_pickle_is_refused_with_its_converters(tmp_path: Path) -> None:
    class Network:
        pass

    with seeds.stand_in_modules(dnnlib__tflib__network__Network=Network):
        data = pickle.dumps((Network(), Network(), Network()), protocol=2)
    path = tmp_path / "stylegan2-ffhq-config-f.pkl"
    path.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"pickled by TensorFlow .*legacy\.py .*convert_weight\.py"
    ) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_error_on_a_truncated_pickle(tmp_path: Path, kept: float) -> None:
    data = seeds.nvidia_pickle(seeds.nvidia())
    path = tmp_path / "cut.pkl"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"cut\.pkl: expected a complete pickle"):
        read_pickle(path)


def test_a_storage_must_hold_a_storage(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch.storage._load_from_bytes, (b"not a storage",)

    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="expected a complete pickle"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"mapping.embed.weight": torch.zeros(16, 10)},
            "expected an unconditional generator, got one with 10 classes",
        ),
        ({"synthesis.b8.skip.weight": torch.zeros(8, 8, 1, 1)}, "got 'resnet'"),
    ],
    ids=["labels", "resnet"],
)
def test_error_on_an_architecture_that_is_not_supported(
    tmp_path: Path, change: seeds.State, message: str
) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(seeds.nvidia_pickle({**seeds.nvidia(), **change}))
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)
