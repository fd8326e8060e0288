"""From trained networks to a bundle.

    python -m training.make_bundle --trained DIR --trackers DIR --out engines/demo [--card FILE] [--clip FILE] [--overwrite]

`--trained` holds generator-photo.pt, generator-toon.pt, encoder.pt and features.npz as `training.fit` leaves them; `--trackers`
detector.onnx and landmarks.onnx as `doppelgan.export.trackers` writes them. Without an encoder or trackers, those are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from doppelgan.export import Mapping as ExportMapping
from doppelgan.export import Synthesis as ExportSynthesis
from doppelgan.export import export_module, generator_weights, read_checkpoint
from doppelgan.export.onnx_files.onnx_graph import ExportedNetwork, run_torch
from doppelgan.export.onnx_files.parity import compare_all
from doppelgan.runtime.bundle import BundleWriter, add_effects
from doppelgan.runtime.edit import Direction
from doppelgan.runtime.manifest import EncoderInfo, Parity
from doppelgan.runtime.manifest import Tensor as TensorInfo
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from training.fit.directions import (
    EYE_CONTACT,
    Attribute,
    FittedDirection,
    attributes_of,
    codes_of,
    eye_contact,
    find_directions,
    gaze_effect,
    sampled_features,
)
from training.fit.lessons.encoder import EncoderToCodes, load_encoder
from training.fit.networks.stylegan2 import load_generator
from training.fit.people.features import FeatureCodec

SAMPLES = 8  # that each network is compared with torch on
_STORED_TOLERANCE = 2e-3  # float16 rounds a constant by at most 1 in 2048

LICENSE = "Apache-2.0 for this bundle's own networks; Apache-2.0 for the trackers (MediaPipe); see the model card"

WORTH_A_NOTE = 0.2  # leak in W, relative to the edit itself


def make_bundle(
    trained: Path,
    out: Path,
    *,
    trackers: Path | None = None,
    card: Path | None = None,
    clip: Path | None = None,  # a short video that `doppelgan demo` runs on
    name: str = "demo",
    overwrite: bool = False,
    people: int = 3000,  # invented people that directions and statistics are measured on
    offset_scale: float = 1.0,  # of the encoder's W+ offsets: 0 stays in W
    half: bool = True,  # store large constants as float16; engines widen them when loading
) -> Path:
    """Write the bundle; returns its folder."""
    codec = FeatureCodec.load(trained / "features.npz")
    mapping, synthesis = load_generator(
        torch.load(trained / "generator-photo.pt", map_location="cpu", weights_only=True)["g_ema"]
    )
    features = torch.from_numpy(sampled_features(people, names=codec.names))
    w = codes_of(codec, mapping, features)
    average = w.mean(0)
    n_styles, w_dim = synthesis.n_styles, w.shape[1]
    codes = w[:SAMPLES, None].expand(-1, n_styles, -1).contiguous()

    writer = BundleWriter(
        out, overwrite=overwrite, name=name, description=f"avatars from rendered people, {synthesis.size} px, photo and toon",
        license=LICENSE, n_styles=n_styles, w_dim=w_dim, z_dim=codec.z_dim, image_size=synthesis.size,
    )  # fmt: skip
    with writer as bundle:

        def add(name: str, module: torch.nn.Module, inputs: dict[str, Tensor], *outputs: str) -> None:
            network, parity, data = exported(name, module, inputs, outputs, half=half)
            bundle.add_network(name, data, network.inputs, network.outputs, parity=parity, gflop=network.gflop)

        for style, network in (("photo", "synthesis"), ("toon", "synthesis-toon")):
            path = trained / f"generator-{style}.pt"
            checkpoint = read_checkpoint(path)
            weights = generator_weights(checkpoint)
            if style == "photo":
                z = torch.randn(SAMPLES, codec.z_dim, generator=torch.Generator().manual_seed(5))
                add("mapping", ExportMapping(weights), {"z": z}, "w")
            add(network, ExportSynthesis(weights), {"codes": codes}, "image")
            bundle.add_generator(style, network)
            bundle.add_source(path, checkpoint.layout, LICENSE)

        if (trained / "encoder.pt").exists():
            encoder = load_encoder(trained / "encoder.pt")
            module = EncoderToCodes(encoder, codec, mapping, offset_scale).requires_grad_(False)
            samples = encoder_samples(synthesis(codes), encoder, len(module.still))
            add("encoder", module, samples, "codes", "appearance")
            bundle.add_encoder(EncoderInfo("demo"), encoder.size)

        for tracker in ("detector", "landmarks"):
            if trackers is not None and (trackers / f"{tracker}.onnx").exists():
                _add_tracker(bundle, tracker, trackers / f"{tracker}.onnx")

        bundle.add_latent(
            latent_avg=average[None].expand(n_styles, -1).numpy(),
            w_std=w.std(0).numpy(),
            appearance_std=codec.standardize(features)[:, codec.columns_outside("motion")].std(0).numpy(),
            samples=w[100:116, None].expand(-1, n_styles, -1).numpy(),
        )
        attributes = attributes_of(codec.names)
        directions = find_directions(codec, mapping, features)
        for label, fitted in directions.items():
            worst, leak = max(fitted.leak.items(), key=lambda one: abs(one[1]), default=("", 0.0))
            note = f"also moves {worst} by {leak:+.2f}" if abs(leak) >= WORTH_A_NOTE else ""
            bundle.add_direction(as_direction(label, fitted, n_styles, attributes[label], note))
        if {"gaze_x", "gaze_y", "yaw", "pitch"} <= set(directions):
            for direction in eye_contact(codec, mapping, features, directions, n_styles):
                bundle.add_direction(direction)
        if card is not None:
            bundle.add_file("card", "MODEL_CARD.md", card)
        if clip is not None:
            bundle.add_file("clip", "clip.mp4", clip)
    eyes = [f"{EYE_CONTACT}_x", f"{EYE_CONTACT}_y", "gaze_x", "gaze_y"] if "gaze_x" in directions else []
    add_effects(out, known={name: gaze_effect(name) for name in eyes})
    return out


def exported(
    name: str, module: torch.nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], *, half: bool
) -> tuple[ExportedNetwork, tuple[Parity, ...], bytes]:
    """A network as ONNX, how far it is from torch, and the bytes to store: with `half`, large constants in float16."""
    network = export_module(name, module, inputs, outputs, report=print)
    if not half:
        return network, network.parity, network.onnx
    data = half_constants(network.onnx)
    return network, (*network.parity, *stored_parity(name, module, inputs, outputs, data)), data


def as_direction(name: str, fitted: FittedDirection, n_styles: int, attribute: Attribute, note: str = "") -> Direction:
    """As a bundle keeps it: the same in every row."""

    def in_rows(steps: Tensor) -> np.ndarray:
        rows = steps[..., None, :].expand(*steps.shape[:-1], n_styles, -1)
        return np.ascontiguousarray(rows.numpy(), np.float32)

    said: dict[str, Any] = {"note": note, "moves": attribute.moves, "where": attribute.where, "hue": attribute.hue}
    low, high = attribute.ends
    if fitted.probes is not None and fitted.steps is not None:
        said |= {"probes": fitted.probes.numpy(), "steps": in_rows(fitted.steps)}
        return Direction(name, in_rows(fitted.offset), range=(0.0, 1.0), ends=("as it is", high), **said)
    said |= {"probe": fitted.probe.numpy(), "origin": fitted.origin, "bounds": fitted.bounds}
    return Direction(name, in_rows(fitted.offset), range=(-1.0, 1.0), ends=(low, high), **said)


@torch.no_grad()
def encoder_samples(pictures: Tensor, encoder: Any, appearance: int) -> dict[str, Tensor]:
    """Crops, meshes and memories to compare torch and ONNX on; the first remembers nothing."""
    mean = encoder.landmark_mean.reshape(1, -1, 3) * encoder.size / 2
    noise = torch.randn(len(pictures), 1, 3, generator=torch.Generator().manual_seed(6))
    memory = torch.randn(len(pictures), appearance, generator=torch.Generator().manual_seed(7))
    trust = torch.linspace(0, 1, len(pictures))[:, None]
    return {"crop": pictures.clamp(-1, 1), "landmarks": mean + noise, "memory": memory, "trust": trust}


def _add_tracker(bundle: BundleWriter, name: str, path: Path) -> None:
    graph = onnx.load(str(path)).graph

    def infos(values: Any) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(value.name, "float32", tuple(d.dim_value for d in value.type.tensor_type.shape.dim)) for value in values
        )

    bundle.add_network(name, path, infos(graph.input), infos(graph.output))
    bundle.add_source(path, "onnx", "Apache-2.0 (MediaPipe)")


def stored_parity(
    name: str, module: torch.nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], data: bytes
) -> tuple[Parity, ...]:
    """How far the stored network, run by ONNX Runtime, is from the float32 module. Raises ParityError beyond
    _STORED_TOLERANCE.
    """
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    samples = [{k: v[i : i + 1].contiguous() for k, v in inputs.items()} for i in range(SAMPLES)]
    reference = [run_torch(module, sample, outputs) for sample in samples]
    got = [
        dict(zip(outputs, session.run(list(outputs), {k: v.numpy() for k, v in sample.items()}), strict=True))
        for sample in samples
    ]
    step = "torch float32 -> stored (large constants float16) in onnxruntime float32"
    return compare_all(
        name,
        step,
        {output: np.concatenate([one[output] for one in reference]) for output in outputs},
        {output: np.concatenate([one[output] for one in got]) for output in outputs},
        tolerance=_STORED_TOLERANCE,
        samples=SAMPLES,
    )


def half_constants(data: bytes, smallest: int = 1024) -> bytes:
    """Store large float32 constants as float16 followed by a Cast, which engines compute once when they load.

    The trained checkpoints are float16 already, so nothing is lost but what constant folding of gains had added.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < smallest:
            continue
        array = numpy_helper.to_array(tensor)
        if np.abs(array).max() > 6e4 or 0 < np.abs(array).max() < 1e-3:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_widen", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    stored: bytes = model.SerializeToString()
    return stored


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.make_bundle",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trackers", type=Path)
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md of the bundle")
    parser.add_argument("--clip", type=Path, help="a short video that `doppelgan demo` runs on")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--offset-scale", type=float, default=1.0)
    parser.add_argument("--overwrite", action="store_true")
    arguments = parser.parse_args()
    folder = make_bundle(
        arguments.trained, arguments.out, trackers=arguments.trackers, card=arguments.card, clip=arguments.clip,
        name=arguments.name, overwrite=arguments.overwrite, offset_scale=arguments.offset_scale,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
