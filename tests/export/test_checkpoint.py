"""Files are recognized by content, whatever their name, and refused with the way out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from doppelgan.export.checkpoints.checkpoint import read_checkpoint
from doppelgan.runtime.errors import CheckpointError
from safetensors.torch import save_file

from . import seeds

E4E = "Encoder4Editing"


def save(path: Path, content: Any, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize(
    ("content", "layout", "generator_layout", "has_encoder", "has_average"),
    [
        (
            {"g_ema": seeds.rosinality(), "latent_avg": torch.zeros(16)},
            "rosinality stylegan2", "rosinality", False, True,
        ),
        (
            {
                "g": seeds.rosinality(seed=1), "g_ema": seeds.rosinality(), "d": {"x.weight": torch.zeros(1)},
                "args": argparse.Namespace(size=16), "ada_aug_p": 0.0,
            },
            "rosinality stylegan2", "rosinality", False, False,
        ),
        (seeds.rosinality(), "rosinality stylegan2", "rosinality", False, False),
        ({"G_ema": seeds.nvidia()}, "NVIDIA stylegan2-ada", "nvidia", False, False),
        (seeds.nvidia(), "NVIDIA stylegan2-ada", "nvidia", False, False),
        (seeds.psp_checkpoint(E4E), f"pSp family ({E4E})", "rosinality", True, True),
        (
            {
                "state_dict": {f"encoder.{k}": v for k, v in seeds.encoder(E4E, 6).items()},
                "opts": {"encoder_type": E4E},
            },
            f"pSp family ({E4E})", None, True, False,
        ),
    ],
    ids=["g_ema", "training-state", "bare", "nvidia-dict", "nvidia-bare", "psp-family", "encoder-only"],
)  # fmt: skip
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_of_every_layout(
    tmp_path: Path, content: Any, layout: str, generator_layout: str | None, has_encoder: bool,
    has_average: bool, zipped: bool,
) -> None:  # fmt: skip
    path = save(tmp_path / "misleading.pkl", content, _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path)
    assert (found.layout, found.generator_layout) == (layout, generator_layout)
    assert (found.encoder is not None) == has_encoder
    assert (found.latent_avg is not None) == has_average
    if generator_layout == "rosinality":  # the moving average, not "g"
        assert found.generator is not None
        assert torch.equal(found.generator["input.input"], seeds.rosinality()["input.input"])


def test_safetensors_of_a_generator(tmp_path: Path) -> None:
    save_file({f"g_ema.{k}": v for k, v in seeds.rosinality().items()}, tmp_path / "g.safetensors")
    found = read_checkpoint(tmp_path / "g.safetensors")
    assert found.generator_layout == "rosinality"
    assert found.generator is not None
    assert set(found.generator) == set(seeds.rosinality())


@pytest.mark.parametrize("notes", [{"opts": json.dumps({"encoder_type": E4E})}, {"encoder_type": E4E}])
def test_safetensors_of_an_encoder_carry_their_options_as_metadata(
    tmp_path: Path, notes: dict[str, str]
) -> None:
    content = seeds.psp_checkpoint(E4E)
    path = tmp_path / "e4e.safetensors"
    save_file({**content["state_dict"], "latent_avg": content["latent_avg"]}, path, metadata=notes)
    found = read_checkpoint(path)
    assert found.encoder_type == E4E
    assert found.encoder is not None
    assert len(found.encoder) == len(seeds.encoder(E4E, 6))
    assert found.latent_avg is not None


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_error_on_a_truncated_file(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / "cut.bin"
    if kind == "safetensors":
        save_file(seeds.rosinality(), path)
    else:
        save(path, {"g_ema": seeds.rosinality()}, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"cut\.bin: expected a complete \w+ file") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"age": torch.zeros(1, 512)}, "a latent code or direction; pass a direction with --direction"),
        ({"ckpt": "x", "eigvec": torch.zeros(512, 512)}, "edit directions; pass the file with --direction"),
        ({"G_ema": {"synthesis.input.transform": torch.eye(3)}}, "a StyleGAN3 generator"),
        (
            {"layer1.weight": torch.zeros(3), "layer2.weight": torch.zeros(3)},
            "2 tensors of an unknown network",
        ),
        ({}, "no tensors at all"),
        (
            {"state_dict": {f"encoder.{k}": v for k, v in seeds.encoder(E4E, 6).items()}},
            r"expected opts\.encoder_type beside the encoder's tensors, got None",
        ),
    ],
    ids=["direction", "sefa", "stylegan3", "other-network", "empty", "no-opts"],
)
def test_error_says_what_came_instead(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(save(tmp_path / "other.pt", content))
    assert "other.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "got a file that begins with"), (b"\x89PNG\r\n\x1a\n" + bytes(20), "got a file that begins with")],
)
def test_error_on_a_file_of_another_kind(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "picture.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_error_on_a_missing_file_and_on_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint file, got nothing; check the path"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="expected a checkpoint file, got a folder"):
        read_checkpoint(tmp_path)
