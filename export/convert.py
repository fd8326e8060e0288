"""Checkpoint files -> bundle: the whole flow of ``doppelgan export`` on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from doppelgan.runtime.bundle import BundleWriter, add_effects, find_bundle
from doppelgan.runtime.errors import BundleError, CheckpointError
from doppelgan.runtime.manifest import EncoderInfo, read_manifest, step_name
from doppelgan.runtime.types import Announce
from torch import Tensor

from .checkpoints.checkpoint import Checkpoint, read_checkpoint
from .directions import collect_directions
from .networks.blend import blended
from .networks.encoders import CROP_SIZE, Encoder
from .networks.stylegan2 import GeneratorWeights, Mapping, Synthesis, from_nvidia, from_rosinality
from .onnx_files.onnx_graph import ExportedNetwork, export_module, no_report

RESTYLE_STEPS = 5
GENERATORS = {"photo": "synthesis"}  # style -> network, where that is not named after it
UNSTATED_LICENSE = "not stated; that of the source files applies"


def export_checkpoint(
    checkpoint: str | Path,  # generator, encoder, or encoder with its generator
    output: str | Path,  # folder of the bundle, not there yet
    *,
    generator: str | Path | None = None,  # instead of the one in ``checkpoint``, or where it has none
    toon: str | Path | None = None,  # a second generator for the same codes, style "toon"
    blend_at: Sequence[
        int
    ] = (),  # px from which on the toon is the second generator's, below it the first's;
    # several: so many steps on the way from the photo to the toon
    blend_width: float = 0.0,  # doublings over which that changes
    directions: Iterable[str | Path] = (),  # files as in runtime/edit/direction_files.py, or "sefa"
    name: str | None = None,  # of the bundle; default: the folder's
    license: str = UNSTATED_LICENSE,  # noqa: A002
    overwrite: bool = False,
    trackers: bool = True,  # copy the face trackers of the demo bundle, if it is there
    threads: int = 0,  # of the checks; 0 lets ONNX Runtime decide
    progress: Announce = no_report,  # is told each step
) -> Path:
    """Write a bundle and return its folder.

    Raises CheckpointError for a file that cannot be exported, ParityError if ONNX Runtime disagrees with
    torch, BundleError if the bundle cannot be written. Nothing is left behind in any of these cases.
    """
    output = Path(output)
    BundleWriter(output, overwrite=overwrite)  # refuse before the long part

    # Read.
    progress(f"read {Path(checkpoint).name}")
    source = read_checkpoint(checkpoint)
    photo = source if generator is None else _read_generator(generator, progress)
    second = None if toon is None else _read_generator(toon, progress)
    progress("read the generator's constants")
    weights = generator_weights(photo)
    toon_weights = None if second is None else generator_weights(second)
    for file, constants in ((photo, weights), (second, toon_weights)):
        if file is not None and constants is not None:
            for note in constants.notes:
                progress(f"note: {file.path.name}: {note}")
    _check_agreement(photo, weights, second, toon_weights)
    drawn = _styles(weights, toon_weights, blend_at, blend_width)
    edits = collect_directions(directions, weights)
    latent_avg, w_std = _latent_statistics(source, photo, weights)

    # Convert, check, write.
    writer = BundleWriter(
        output,
        overwrite=overwrite,
        name=name or output.name,
        description=f"{source.layout}, {weights.image_size} px",
        license=license,
        n_styles=weights.n_styles,
        w_dim=weights.w_dim,
        z_dim=weights.z_dim,
        image_size=weights.image_size,
    )
    with writer as bundle:
        if source.encoder is not None:
            encoder = build_encoder(source, weights, latent_avg)
            restyle = encoder.in_channels == 6
            crops = {"crop": _test_crops(encoder.in_channels)}
            _add(
                bundle, export_module("encoder", encoder, crops, ["codes"], threads=threads, report=progress)
            )
            loop = EncoderInfo(str(source.encoder_type), "restyle", RESTYLE_STEPS) if restyle else None
            bundle.add_encoder(loop or EncoderInfo(str(source.encoder_type)), CROP_SIZE)
            del encoder

        codes = {"codes": _test_codes(weights, latent_avg)}
        if weights.mapping:
            z = {"z": _test_z(weights, 4)}
            _add(
                bundle, export_module("mapping", Mapping(weights), z, ["w"], threads=threads, report=progress)
            )
        for style, constants in drawn.items():
            network = GENERATORS.get(style, f"synthesis-{style.replace('@', '-')}")
            module = Synthesis(constants)
            _add(bundle, export_module(network, module, codes, ["image"], threads=threads, report=progress))
            bundle.add_generator(style, network)

        progress("write the bundle")
        bundle.add_latent(
            latent_avg=latent_avg.numpy(), **({} if w_std is None else {"w_std": w_std.numpy()})
        )
        for direction in edits:
            bundle.add_direction(direction)
        if trackers:
            _add_trackers(bundle)
        for used in {c.path: c for c in (source, photo, second) if c is not None}.values():
            bundle.add_source(used.path, used.layout, license)
    add_effects(output, lambda direction: progress(f"measure what {direction} does"))
    return output


def _styles(
    photo: GeneratorWeights, toon: GeneratorWeights | None, blend_at: Sequence[int], width: float
) -> dict[str, GeneratorWeights]:
    """Style -> what draws it, from the photo to the toon. Raises CheckpointError."""
    if toon is None:
        if blend_at:
            raise CheckpointError(
                "blend: expected a second generator to blend with, got none; name it with --toon"
            )
        return {"photo": photo}
    if len(blend_at) == 1:
        return {"photo": photo, "toon": blended(photo, toon, blend_at[0], width)}
    steps = {
        step_name("toon", at): blended(photo, toon, at, width) for at in sorted(set(blend_at), reverse=True)
    }
    return {"photo": photo, **steps, "toon": toon}


def generator_weights(source: Checkpoint) -> GeneratorWeights:
    """The generator in ``source``, whichever layout. Raises CheckpointError."""
    if source.generator is None:
        raise CheckpointError(
            f"{source.path.name}: expected a generator beside the encoder (decoder.*), got none; "
            "pass one with --generator"
        )
    if source.generator_layout == "nvidia":
        return from_nvidia(source.generator, source.modules)
    return from_rosinality(source.generator)


def build_encoder(
    source: Checkpoint,
    weights: GeneratorWeights,
    latent_avg: Tensor,  # [n_styles, w_dim]
) -> Encoder:
    """The encoder in ``source`` as a module; ReStyle's gives a residue, the others the whole code."""
    assert source.encoder is not None
    assert source.encoder_type is not None
    encoder = Encoder(source.encoder, source.encoder_type, weights.n_styles, weights.w_dim)
    if encoder.in_channels not in (3, 6):
        raise CheckpointError(
            f"{source.path.name}: expected an encoder with 3 input channels (6 for ReStyle), "
            f"got {encoder.in_channels}; encoders for sketches and segmentation maps cannot be exported"
        )
    if encoder.in_channels == 3 and source.options.get("start_from_latent_avg", True):
        encoder.latent_avg = latent_avg
    return encoder


def _read_generator(path: str | Path, progress: Announce) -> Checkpoint:
    progress(f"read {Path(path).name}")
    return read_checkpoint(path)


def _check_agreement(
    photo: Checkpoint, weights: GeneratorWeights, second: Checkpoint | None, toon: GeneratorWeights | None
) -> None:
    if second is None or toon is None:
        return
    want = (weights.n_styles, weights.w_dim, weights.image_size)
    got = (toon.n_styles, toon.w_dim, toon.image_size)
    if want != got:
        raise CheckpointError(
            f"{second.path.name}: expected a generator for codes [{want[0]}, {want[1]}] and {want[2]} px "
            f"like {photo.path.name}, got [{got[0]}, {got[1]}] and {got[2]} px; "
            "fine-tune it from the same generator"
        )


def _latent_statistics(
    source: Checkpoint, photo: Checkpoint, weights: GeneratorWeights
) -> tuple[Tensor, Tensor | None]:  # [n_styles, w_dim], [w_dim]
    """The average code, from a file or measured, and the spread of W if there is a mapping network."""
    average = next((a for a in (source.latent_avg, photo.latent_avg, weights.w_avg) if a is not None), None)
    w = None
    if weights.mapping:
        with torch.inference_mode():
            w = Mapping(weights)(_test_z(weights, 1024 if average is not None else 8192))
    if average is None and w is not None:
        average = w.mean(dim=0)
    if average is None:
        raise CheckpointError(
            f"{source.path.name}: expected latent_avg or a mapping network (style.*), got neither; "
            "add latent_avg [w_dim] to the file"
        )
    average = average.detach().to(torch.float32)
    rows = average.reshape(-1, average.shape[-1]) if average.ndim else average
    if rows.ndim != 2 or rows.shape[1] != weights.w_dim or rows.shape[0] not in (1, weights.n_styles):
        raise CheckpointError(
            f"{source.path.name}: expected latent_avg of shape [{weights.w_dim}] or "
            f"[{weights.n_styles}, {weights.w_dim}], "
            f"got {list(average.shape)}; take the encoder and the generator of the same model"
        )
    return rows.expand(weights.n_styles, -1).contiguous(), None if w is None else w.std(dim=0)


def _test_z(weights: GeneratorWeights, n: int) -> Tensor:
    return torch.randn(n, weights.z_dim, generator=torch.Generator().manual_seed(1))


def _test_codes(weights: GeneratorWeights, latent_avg: Tensor) -> Tensor:
    """Two codes as they occur: of invented people, pulled half way to the average."""
    if not weights.mapping:
        spread = torch.randn(2, *latent_avg.shape, generator=torch.Generator().manual_seed(2))
        return latent_avg + 0.5 * spread
    with torch.inference_mode():
        w = Mapping(weights)(_test_z(weights, 2))
    return torch.lerp(latent_avg, w[:, None], 0.5)


def _test_crops(channels: int) -> Tensor:
    """Smooth noise in -1..1: coarse colors with detail on top."""
    seed = torch.Generator().manual_seed(3)
    coarse = torch.nn.functional.interpolate(
        torch.rand(1, channels, 8, 8, generator=seed), CROP_SIZE, mode="bicubic"
    )
    return (1.6 * coarse - 0.8 + 0.2 * torch.randn(coarse.shape, generator=seed)).clamp(-1, 1)


def _add(bundle: BundleWriter, network: ExportedNetwork) -> None:
    bundle.add_network(
        network.name,
        network.onnx,
        network.inputs,
        network.outputs,
        parity=network.parity,
        gflop=network.gflop,
    )


def _add_trackers(bundle: BundleWriter) -> None:
    """Copy "detector" and "landmarks" from the embedded demo bundle."""
    try:
        folder = find_bundle("demo")
        demo = read_manifest((folder / "manifest.json").read_bytes(), str(folder / "manifest.json"))
    except BundleError:
        return
    for name in ("detector", "landmarks"):
        if name in demo.networks:
            n = demo.networks[name]
            bundle.add_network(
                name,
                folder / n.file,
                n.inputs,
                n.outputs,
                precision=n.precision,
                parity=n.parity,
                gflop=n.gflop,
            )
