"""Files are recognized by content, whatever their name, and refused with the way out."""

from __future__ import annotations

import argparse
import json
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doppelgan.export.checkpoints.checkpoint import read_checkpoint
from doppelgan.export.checkpoints.tensors import require_finite
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


def test_names_may_hold_bytes_that_are_no_letters(tmp_path: Path) -> None:
    odd = "gr\udcfcn"
    state = seeds.rosinality()
    save(tmp_path / "g.pt", {"g_ema": state}).rename(tmp_path / f"{odd}.pt")
    save_file(state, tmp_path / "g.safetensors")
    (tmp_path / "g.safetensors").rename(tmp_path / f"{odd}.safetensors")
    for name in (f"{odd}.pt", f"{odd}.safetensors"):
        found = read_checkpoint(tmp_path / name)
        assert found.generator is not None
        assert torch.equal(found.generator["input.input"], state["input.input"])


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


def module(state: seeds.State) -> seeds.State:
    return {f"module.{k}": v for k, v in state.items()}


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ({"g_ema": module(seeds.rosinality())}, "rosinality"),
        (module(seeds.rosinality()), "rosinality"),
        ({"g_ema": {f"_orig_mod.module.{k}": v for k, v in seeds.rosinality().items()}}, "rosinality"),
        ({"G_ema": module(seeds.nvidia())}, "nvidia"),
        (
            {**seeds.psp_checkpoint(E4E), "state_dict": module(seeds.psp_checkpoint(E4E)["state_dict"])},
            "rosinality",
        ),
        (
            {
                **seeds.psp_checkpoint(E4E),
                "state_dict": {
                    k.replace("encoder.", "encoder.module.").replace("decoder.", "decoder.module."): v
                    for k, v in seeds.psp_checkpoint(E4E)["state_dict"].items()
                },
            },
            "rosinality",
        ),
    ],
    ids=["g_ema", "bare", "compiled", "nvidia", "encoder", "inner"],
)
def test_wrappers_of_torch_are_taken_off_the_names(tmp_path: Path, content: Any, layout: str) -> None:
    found = read_checkpoint(save(tmp_path / "g.pt", content))
    assert found.generator_layout == layout
    assert found.generator is not None
    assert set(found.generator) == set(seeds.rosinality() if layout == "rosinality" else seeds.nvidia())
    assert (found.encoder is not None) == ("state_dict" in content)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("latent_avg", "latent_avg"),
        ("encoder.styles.3.linear.bias", "encoder tensor 'styles.3.linear.bias'"),
        ("decoder.convs.1.conv.weight", "generator tensor 'convs.1.conv.weight'"),
        ("decoder.noises.noise_2", "generator tensor 'noises.noise_2'"),
        ("encoder.body.4.res_layer.0.running_mean", "encoder tensor 'body.4.res_layer.0.running_mean'"),
    ],
)
def test_nan_and_infinity_are_found_on_reading_and_named(
    tmp_path: Path, key: str, name: str, bad: float
) -> None:
    content = seeds.psp_checkpoint(E4E)
    place = content if key == "latent_avg" else content["state_dict"]
    place[key] = place[key].to(torch.float64)
    place[key].view(-1)[-1] = bad
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(save(tmp_path / "e4e.pt", content))
    assert str(caught.value).startswith(f"e4e.pt: {name}: expected finite numbers, got NaN or infinity; ")


def test_a_negative_variance_is_found_on_reading(tmp_path: Path) -> None:
    content = seeds.psp_checkpoint(E4E)
    content["state_dict"]["encoder.body.4.res_layer.0.running_var"][1] = -1
    with pytest.raises(
        CheckpointError, match=r"'body\.4\.res_layer\.0\.running_var': expected variances of 0"
    ):
        read_checkpoint(save(tmp_path / "e4e.pt", content))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "nvidia"])
def test_damaged_files_are_named_and_nothing_worse(tmp_path: Path, kind: str) -> None:
    """Bits turned and pieces cut out at seeded places: a checkpoint, or one line that says what is wrong."""
    path = tmp_path / "damaged.bin"
    if kind == "safetensors":
        save_file(seeds.rosinality(), path)
    elif kind == "nvidia":
        path.write_bytes(seeds.nvidia_pickle(seeds.nvidia()))
    else:
        save(path, {"g_ema": seeds.rosinality()}, _use_new_zipfile_serialization=kind == "zip")
    whole, draw, messages = path.read_bytes(), np.random.default_rng(5), list[str]()
    for _ in range(60):
        data = bytearray(whole)
        # Structure is at the ends; tensors fill the middle.
        place = int(draw.choice([draw.integers(0, 2000), draw.integers(len(data) - 2000, len(data)),
                                 draw.integers(0, len(data))]))  # fmt: skip
        if draw.random() < 0.7:
            data[place] ^= 1 << int(draw.integers(0, 8))
        else:
            del data[place : place + int(draw.integers(1, 300))]
        path.write_bytes(data)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) >= 10
    assert not any("\n" in message for message in messages)


def test_error_on_a_missing_file_and_on_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint file, got nothing; check the path"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="expected a checkpoint file, got a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_names_of_endless_length_are_refused_at_once(tmp_path: Path, zipped: bool) -> None:
    """Torch searches its own message about them in quadratic time: 100 kB would take minutes."""
    path = save(tmp_path / "long.pt", {"a": torch.zeros(2)}, _use_new_zipfile_serialization=zipped)
    name = b"c" + b"(" * 100_000 + b"\n" + b"x\n"
    if zipped:
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, b"\x80\x02" + name + b"." if member.endswith(".pkl") else content)
    else:
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"ctorch", name + b"ctorch", 1))
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"other objects \(\(\(\(.*nothing in it was run"):
        read_checkpoint(path)
    assert time.process_time() - start < 3


def test_an_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "part.pt", {"a": torch.zeros(2)})
    content = path.read_bytes()
    at = content.rindex(b"PK\5\6")
    locator = struct.pack("<4sIQI", b"PK\6\7", 3, 0, 7)
    path.write_bytes(content[:at] + locator + content[at:])
    with pytest.raises(CheckpointError, match="expected a complete torch file, got a truncated one"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "bad", [[float("nan")], [float("inf")], [float("-inf")], [float("inf"), float("-inf")]]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_numbers_that_are_not_finite_are_refused_wherever_they_stand(
    bad: list[float], dtype: torch.dtype
) -> None:
    tensor = torch.ones(1000, dtype=dtype)
    assert require_finite(tensor, "it") is tensor
    tensor[500 : 500 + len(bad)] = torch.tensor(bad, dtype=dtype)
    with pytest.raises(CheckpointError, match="it: expected finite numbers"):
        require_finite(tensor, "it")


def test_finite_numbers_whose_sum_is_not_are_taken() -> None:
    large = torch.full((100,), 3e38)
    assert require_finite(large, "it") is large
    with pytest.raises(CheckpointError):
        require_finite(torch.full((2,), 1e300, dtype=torch.float64), "it")  # not finite as float32
