"""A bundle whose encoder moves its avatars as far as people move.

    python -m training.calibrate --bundle engines/demo --data people/ --out calibrated [--everyone]

Training by differences teaches an encoder to answer with the mean of what it is unsure of: of a brow that it sees half the time,
half. Averaged over people that is the smallest error, and in a video a face that hardly moves. So each feature that moves is
stretched, about its mean, until its readings of people whom the encoder has not seen spread as widely as the truth. Brows are
stretched until they follow one to one: in a still picture a raised brow can be put down to the person, whose brows sit high, but
in a video looks are remembered, and only what is read as motion moves.

Features that hardly correlate with the truth are left alone: noise needs no stretching. `--everyone` reads all people in `--data`
instead of the held-out ones: when they were rendered after the encoder was trained.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from doppelgan.export.networks.reader import generator_state
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.host.files import sha256_of, write_whole
from doppelgan.runtime.manifest import MANIFEST, write_manifest
from onnx import numpy_helper
from torch import Tensor

from training.fit.lessons.encoder import EncoderToCodes
from training.fit.losses.mesh import MeshFinder
from training.fit.networks.encoder import Encoder
from training.fit.networks.stylegan2 import load_generator
from training.fit.people.augment import aligned_matrix, warp
from training.fit.people.batches import crop_pixels
from training.fit.people.features import FeatureCodec
from training.fit.people.older import in_terms_of, told_by
from training.from_bundle import STATE, encoder_of
from training.make_bundle import encoder_samples, stored_parity
from training.render.data.dataset import Dataset

MOST = 3.0  # times as far: what is read so weakly is mostly noise
SEEN = 0.3  # correlation with the truth, from which a feature is seen at all
FEWEST = 60  # people
_ONE_TO_ONE = "brow"  # features that begin so
_TURNED_BACK = ("roll",)  # alignment takes it out of every crop: there is nothing to read
_LAST = ("encoder.motion.2.weight", "encoder.motion.2.bias")  # of the layer that tells motion
_HALF = "_half"  # constants that make_bundle stored as float16
_CHUNK = 16


@dataclass(frozen=True)
class Reading:
    """How a feature is read: correlation with the truth, slope on it, and how much further it is to go."""

    correlation: float
    slope: float
    gain: float


def gains(names: Sequence[str], read: np.ndarray, true: np.ndarray) -> dict[str, Reading]:
    """Of features [n, names], as read and as they are; alike for both sides of a face."""
    seen: dict[str, list[tuple[float, float]]] = {}  # both sides: correlation and slope
    for name, a, b in zip(names, read.T.astype(np.float64), true.T.astype(np.float64), strict=True):
        together = float(np.cov(a, b, ddof=0)[0, 1])
        correlation = together / max(float(a.std() * b.std()), 1e-9)
        seen.setdefault(_without_side(name), []).append((correlation, together / max(float(b.var()), 1e-9)))
    found = {}
    for name in names:
        correlation, slope = np.mean(seen[_without_side(name)], axis=0)
        gain = 1.0
        if correlation > SEEN and name not in _TURNED_BACK:
            wanted = 1.0 if name.startswith(_ONE_TO_ONE) else correlation
            gain = min(max(wanted / slope, 1.0), MOST)
        found[name] = Reading(round(float(correlation), 2), round(float(slope), 2), round(float(gain), 2))
    return found


def _without_side(name: str) -> str:
    return name.removesuffix("Left").removesuffix("Right")


@torch.no_grad()
def read_people(
    encoder: Encoder, codec: FeatureCodec, landmarks: Path, data: Path, everyone: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Standardized features [n, F] of people in `data`, as the encoder reads them and as they are.

    landmarks: the tracker's network. ValueError for fewer than `FEWEST` people.
    """
    people = Dataset(data)
    rows = np.arange(len(people)) if everyone else people.split()[1]
    known = told_by(codec.names, people.feature_names, torch.from_numpy(people.features)).numpy()
    rows = rows[known[rows]]
    finder = MeshFinder(landmarks)
    read, kept = [], []
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        pictures = np.stack([people.natural(i) for i in some])
        mesh, score = finder(pictures)
        seen = torch.from_numpy(pictures[score > 0.5]).permute(0, 3, 1, 2).float() / 127.5 - 1
        if not len(seen):
            continue
        points = torch.from_numpy(mesh[score > 0.5])
        crops, moved = warp(seen, aligned_matrix(points), points)
        read.append(encoder(crops, crop_pixels(moved, encoder.size))[0])
        kept.append(some[score > 0.5])
    found = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    if len(found) < FEWEST:
        raise ValueError(f"{data}: expected {FEWEST} people with a face that is found, got {len(found)}; render more")
    true = in_terms_of(codec.names, people.feature_names, torch.from_numpy(people.features[found]))
    return torch.cat(read).numpy(), codec.standardize(true).numpy()


def stretched(data: bytes, factors: Tensor) -> bytes:
    """The encoder's ONNX file with its last motion layer [motion] times as strong. ValueError where there is none."""
    model = onnx.load_from_string(data)
    constants = {constant.name.removesuffix(_HALF): constant for constant in model.graph.initializer}
    for name in _LAST:
        if name not in constants:
            raise ValueError(f"encoder: expected a constant {name}, as `training.make_bundle` stores it, got none")
        array = numpy_helper.to_array(constants[name])
        by = factors.numpy().reshape(-1, *[1] * (array.ndim - 1))
        constants[name].CopyFrom(numpy_helper.from_array((array * by).astype(array.dtype), constants[name].name))
    return model.SerializeToString()


def calibrate(folder: Path, data: Path, out: Path, state: Path = STATE, everyone: bool = False) -> dict[str, Reading]:
    """Write the bundle in `folder` to `out` with a calibrated encoder; returns what was read of each feature that moves."""
    codec = FeatureCodec.load(state / "features.npz")
    columns = codec.columns("motion")
    with open_bundle(folder, compiled=False) as bundle:
        encoder = encoder_of(bundle, codec)
        manifest = bundle.manifest
        mapping, synthesis = load_generator(generator_state(bundle, "photo"))
        codes = torch.from_numpy(bundle.latent["samples"])
    networks = manifest.networks
    read, true = read_people(encoder, codec, folder / networks["landmarks"].file, data, everyone)
    found = gains([codec.names[column] for column in columns], read[:, columns], true[:, columns])
    factors = torch.tensor([one.gain for one in found.values()])
    stored = stretched((folder / networks["encoder"].file).read_bytes(), factors)
    last = encoder.motion[2]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.mul_(factors[:, None])
        last.bias.mul_(factors)
        module = EncoderToCodes(encoder, codec, mapping).requires_grad_(False)
        samples = encoder_samples(synthesis(codes[:8]), encoder, len(module.still))
    parity = stored_parity("encoder", module, samples, ("codes", "appearance"), stored)

    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(folder, draft, ignore=shutil.ignore_patterns("compiled"))
    file = draft / networks["encoder"].file
    file.write_bytes(stored)
    network = msgspec.structs.replace(networks["encoder"], sha256=sha256_of(file), parity=parity)
    manifest = msgspec.structs.replace(manifest, networks={**networks, "encoder": network})
    write_whole(draft / MANIFEST, write_manifest(manifest))
    draft.rename(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.calibrate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder that training.render has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bundle; must not be there yet")
    parser.add_argument("--state", type=Path, default=STATE, help="folder of features.npz")
    parser.add_argument("--everyone", action="store_true", help="read all people, not only the held-out ones")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"--out: {arguments.out} is there already; name another folder")
    try:
        found = calibrate(arguments.bundle, arguments.data, arguments.out, arguments.state, arguments.everyone)
    except ValueError as error:
        parser.error(str(error))
    for name, one in found.items():
        print(f"{name:20} correlation {one.correlation:5.2f}  slope {one.slope:5.2f}  times {one.gain:.2f}")


if __name__ == "__main__":
    main()
