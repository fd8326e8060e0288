"""A bundle with one look drawn by a newly trained generator; mapping, encoder, directions and the other look stay.

    python -m training.replace_look --bundle engines/demo --trained relooked/pack --out renewed

For plans that train one look alone (`sharpen`, `relook`): the generator must have the bundle's own mapping network, since encoder
and directions speak its codes. What directions do to pictures is measured anew. A person who was enrolled into the bundle
(`carry_person`) is a difference from the photo look of before, and is left out; enroll again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import msgspec
import numpy as np
import torch
from doppelgan.export import Synthesis as ExportSynthesis
from doppelgan.export import generator_weights, read_checkpoint
from doppelgan.runtime.bundle import add_effects, open_bundle
from doppelgan.runtime.bundle.personal import PERSON
from doppelgan.runtime.host.files import sha256_of, write_whole
from doppelgan.runtime.manifest import MANIFEST, DataFile, Network, Origin, write_manifest

from training.fit.directions import EYE_CONTACT, gaze_effect
from training.fit.networks.stylegan2 import load_generator
from training.make_bundle import LICENSE, SAMPLES, exported

_SAME = 2e-3  # of w, relative: the bundle's mapping network is stored in float16


def replace_look(folder: Path, trained: Path, out: Path, look: str = "photo") -> None:
    """Write the bundle in `folder` to `out`, `look` drawn by the generator in `trained`. ValueError if its codes are others."""
    path = trained / f"generator-{look}.pt"
    with open_bundle(folder, compiled=False) as bundle:
        if look not in bundle.manifest.generators:
            raise ValueError(f"{folder}: expected a look {look!r}, got {', '.join(bundle.styles)}")
        z = np.random.default_rng(5).standard_normal((SAMPLES, bundle.manifest.z_dim or 512)).astype(np.float32)
        known = bundle.map(z)
        mapping, _ = load_generator(torch.load(path, map_location="cpu", weights_only=True)["g_ema"])
        with torch.no_grad():
            differs = float(np.abs(mapping(torch.from_numpy(z)).numpy() - known).max() / np.abs(known).max())
        if not differs < _SAME:
            raise ValueError(
                f"{path}: expected the mapping network of {folder}, whose codes encoder and directions speak, got another "
                f"(w differs by {differs:.2g}); a bundle of its own is what `python -m training.make_bundle` writes"
            )
        codes = torch.from_numpy(np.repeat(known[:, None], bundle.n_styles, axis=1))
        manifest = bundle.manifest
        eyes = [name for name in bundle.directions if name.startswith((EYE_CONTACT, "gaze_"))]
    checkpoint = read_checkpoint(path)
    name = manifest.generators[look]
    network, parity, data = exported(
        name, ExportSynthesis(generator_weights(checkpoint)), {"codes": codes}, ("image",), half=True
    )

    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(folder, draft, ignore=shutil.ignore_patterns("compiled", "person.npz"))
    file = draft / manifest.networks[name].file
    file.write_bytes(data)
    stored = Network(file.name, sha256_of(file), network.inputs, network.outputs, "float32", parity, network.gflop)
    origin = Origin(path.name, sha256_of(path), checkpoint.layout, LICENSE)
    files: dict[str, DataFile] = {key: entry for key, entry in manifest.files.items() if key != PERSON}
    manifest = msgspec.structs.replace(
        manifest,
        networks={**manifest.networks, name: stored},
        sources=tuple(origin if source.file == origin.file else source for source in manifest.sources),
        files=files,
    )
    write_whole(draft / MANIFEST, write_manifest(manifest))
    add_effects(draft, known={eye: gaze_effect(eye) for eye in eyes})
    draft.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.replace_look", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True, help="folder of generator-LOOK.pt, as `training.fit` leaves it")
    parser.add_argument("--look", default="photo")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new bundle; must not be there yet")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"--out: {arguments.out} is there already; name another folder")
    try:
        replace_look(arguments.bundle, arguments.trained, arguments.out, arguments.look)
    except ValueError as error:
        parser.error(str(error))
    print(f"{arguments.out}: enroll and carry the person of the demonstration anew (training.carry_person)")


if __name__ == "__main__":
    main()
