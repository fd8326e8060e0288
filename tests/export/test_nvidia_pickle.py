"""NVIDIA pickles give their tensors and run nothing."""

from __future__ import annotations

import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
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
    assert checkpoint.modules["synthesis.b8.conv0"]["conv_clamp"] is None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_attributes_come_back_as_plain_numbers(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "metfaces.pkl"
    changes = {
        ".*b8.conv0": {"conv_clamp": np.float32(256), "act_gain": np.sqrt(2)},
        ".*b8.conv1": {"conv_clamp": np.int64(300), "use_noise": True},
    }
    path.write_bytes(seeds.nvidia_pickle(seeds.nvidia(), changes=changes, protocol=protocol))
    modules = read_checkpoint(path).modules
    first, second = modules["synthesis.b8.conv0"], modules["synthesis.b8.conv1"]
    assert (first["conv_clamp"], first["act_gain"]) == (256.0, math.sqrt(2))
    assert (second["conv_clamp"], second["use_noise"]) == (300, True)
    assert {type(value) for value in (*first.values(), *second.values())} == {float, int, str, bool}


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("", {"c_dim": 10}, "expected c_dim 0, got 10; train or take a generator without labels"),
        ("mapping", {"num_layers": 1}, r"'mapping': expected num_layers the number of its layers fc0"),
        (
            "mapping.fc1",
            {"activation": "swish"},
            r"'mapping\.fc1': expected activation one of linear, relu, lrelu",
        ),
        ("mapping.fc1", {"weight_gain": float("nan")}, "expected weight_gain a positive number, got nan"),
        ("mapping.fc1", {"bias_gain": "1"}, "expected bias_gain a positive number, got '1'"),
        ("synthesis", {"block_resolutions": [4, 8]}, "expected block_resolutions all its blocks"),
        ("synthesis.b8", {"architecture": "resnet"}, "expected architecture 'skip', got 'resnet'"),
        ("synthesis.b8", {"architecture": "orig"}, "expected architecture 'skip', got 'orig'"),
        ("synthesis.b8", {"in_channels": 0}, "expected in_channels 0 in the first block only, got 0"),
        ("synthesis.b8", {"num_conv": 1}, "expected num_conv 1 at 4x4, else 2, got 1"),
        ("synthesis.b8", {"num_torgb": 0}, "expected num_torgb 1, got 0"),
        ("synthesis.b8.conv0", {"up": 1}, "expected up 2 of conv0, 1 of conv1, got 1"),
        ("synthesis.b8.conv0", {"resolution": 16}, "expected resolution that of its block, got 16"),
        ("synthesis.b8.conv0", {"padding": 0}, "expected padding 1, got 0"),
        ("synthesis.b8.conv0", {"activation": "tanh"}, r"'synthesis\.b8\.conv0': expected activation"),
        ("synthesis.b8.conv0", {"act_gain": -1}, "expected act_gain a positive number, got -1"),
        ("synthesis.b8.conv0", {"conv_clamp": 0}, "expected conv_clamp None or a positive number, got 0"),
        ("synthesis.b8.conv0", {"use_noise": 1}, "expected use_noise True or False, got 1"),
        ("synthesis.b8.conv0.affine", {"activation": "relu"}, "linear in an affine layer.*got 'relu'"),
        ("synthesis.b8.torgb", {"conv_clamp": [1]}, "expected conv_clamp None or a positive number"),
        ("synthesis.b8.conv0", {"magnitude_ema": 2.0}, "got magnitude_ema = 2.0, whose effect is not known"),
        ("synthesis.b8.conv0", {"_gain": 2.0}, "got _gain = 2.0, whose effect is not known"),
        ("synthesis.b8.conv0", {"demodulate": torch.tensor(0)}, "got demodulate = Tensor, whose effect"),
        ("synthesis.b8.conv0", {"class_name": "SynthesisLayer2"}, "got 'SynthesisLayer2', whose arithmetic"),
        ("synthesis.b8", {"_forward_hooks": {1: 2}}, "expected no hooks, got _forward_hooks"),
    ],
)
def test_attributes_that_the_export_cannot_follow_are_named(
    tmp_path: Path, where: str, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(seeds.nvidia_pickle(seeds.nvidia(), changes={re.escape(where): change}))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith("other.pkl: module '")
    assert "\n" not in str(caught.value)


def test_attributes_without_effect_may_have_any_value(tmp_path: Path) -> None:
    changes = {
        "mapping": {"w_avg_beta": 0.9, "num_ws": 14, "trainable_layers": 3},
        "synthesis": {"num_fp16_res": 4},
        "synthesis.b8": {"use_fp16": True, "channels_last": True, "fused_modconv_default": "inference_only"},
        ".*": {"_init_kwargs": {"lr_multiplier": 3}, "_is_full_backward_hook": None, "_backend": None},
    }
    path = tmp_path / "g.pkl"
    path.write_bytes(seeds.nvidia_pickle(seeds.nvidia(), changes=changes))
    assert read_checkpoint(path).generator is not None


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
    path = tmp_path / "other.pt"  # tensors alone; in a pickle the modules' attributes say it
    torch.save({"G_ema": {**seeds.nvidia(), **change}}, path)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)
