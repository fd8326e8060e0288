"""The bundle of one person: a copy of a base with a tuned generator, a pivot and an appearance.

A base may carry one such person as a file of its own, ``person``: a `difference` with ``pivot``,
``appearance`` and ``enrollment`` (JSON as uint8) beside it. :func:`open_person` makes a bundle of it for as
long as it is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from ..errors import BundleError
from ..host.files import json_file
from ..manifest import Enrollment, Parity
from ..types import Floats
from .difference import difference, with_difference
from .reader import Bundle, open_bundle
from .writer import BundleWriter

LOOP_GENERATOR = "synthesis-loop"  # the base's, for encoders that look at what it draws
PERSON = "person"  # the file, in a base's manifest


def write_personal(
    output: Path,
    bundle: Bundle,  # the base
    style: str,  # of the generator that was tuned
    tuned: bytes,  # its ONNX file
    enrollment: Enrollment,
    pivot: Floats,  # [n_styles, w_dim]
    appearance: Floats | None,  # [a]
    *,
    parity: Sequence[Parity] = (),
    name: str | None = None,
    picture: Path | None = None,  # of the person, to keep
    overwrite: bool = False,
) -> None:
    """Write the bundle. Raises BundleError if it cannot be written."""
    manifest = bundle.manifest
    encoder = manifest.encoder
    if encoder is None:
        raise BundleError(f"{bundle.path}: expected a bundle with an encoder, got a generator only")
    writer = BundleWriter(
        output,
        overwrite=overwrite,
        name=name or output.name,
        description=f"one person, enrolled into {manifest.name} from {_count(enrollment.frames)}",
        license=manifest.license,
        n_styles=manifest.n_styles,
        w_dim=manifest.w_dim,
        z_dim=manifest.z_dim,
        image_size=manifest.image_size,
        enrollment=enrollment,
    )
    with writer as personal:
        for key, network in manifest.networks.items():
            changed = key == manifest.generators[style]
            personal.add_network(
                key,
                tuned if changed else bundle.path / network.file,
                network.inputs,
                network.outputs,
                precision=network.precision,
                parity=tuple(parity) if changed else network.parity,
                gflop=network.gflop,
            )
        if encoder.loop == "restyle" and not encoder.generator:
            network = manifest.networks[manifest.generators[bundle.styles[0]]]
            path = bundle.path / network.file
            personal.add_network(LOOP_GENERATOR, path, network.inputs, network.outputs, parity=network.parity)
            encoder = msgspec.structs.replace(encoder, generator=LOOP_GENERATOR)
        personal.add_encoder(encoder, manifest.crop_size)
        for key, network_name in manifest.generators.items():
            personal.add_generator(key, network_name)
        for direction in bundle.directions.values():
            personal.add_direction(direction)
        latent = {**bundle.latent, "pivot": pivot}
        if appearance is not None:
            latent["appearance"] = appearance
        personal.add_latent(**latent)
        for key, file in manifest.files.items():
            if key not in ("latent", "directions", "picture", PERSON):
                personal.add_file(key, file.file, bundle.path / file.file)
        if picture is not None:
            personal.add_file("picture", picture.name, picture)
        for source in manifest.sources:
            personal.keep_source(source)


def pack_person(base: Bundle, person: Bundle, path: Path, style: str = "photo") -> None:
    """Write the file ``person`` of ``base``: what `open_person` needs, without the networks."""
    files = [
        bundle.path / bundle.manifest.networks[bundle.manifest.generators[style]].file
        for bundle in (base, person)
    ]
    arrays = difference(*(file.read_bytes() for file in files))
    for key in ("pivot", "appearance"):
        if key in person.latent:
            arrays[key] = np.asarray(person.latent[key], np.float32)
    if person.manifest.enrollment is None:
        raise BundleError(f"{person.path}: expected the bundle of one person, got one without enrollment")
    arrays["enrollment"] = np.frombuffer(json_file(person.manifest.enrollment), np.uint8)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


@contextmanager
def open_person(bundle: Bundle, style: str = "photo") -> Iterator[Bundle | None]:
    """The person that the bundle carries, as a bundle in a temporary folder; None if it carries nobody."""
    entry = bundle.manifest.files.get(PERSON)
    if entry is None or style not in bundle.styles:
        yield None
        return
    with np.load(bundle.path / entry.file, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    try:
        enrollment = msgspec.json.decode(arrays.pop("enrollment").tobytes(), type=Enrollment)
        pivot, appearance = arrays.pop("pivot"), arrays.pop("appearance", None)
    except (KeyError, msgspec.MsgspecError) as error:
        raise BundleError(f"{bundle.path / entry.file}: not a person of this bundle ({error})") from None
    base = (bundle.path / bundle.manifest.networks[bundle.manifest.generators[style]].file).read_bytes()
    with tempfile.TemporaryDirectory(prefix="doppelgan-person-") as folder:
        output = Path(folder) / "person"
        write_personal(output, bundle, style, with_difference(base, arrays), enrollment, pivot, appearance)
        with open_bundle(output, compiled=bundle.compiled is not None, verify=False) as person:
            yield person


def _count(frames: int) -> str:
    return "one picture" if frames == 1 else f"{frames} frames"
