"""Directions added to a bundle that is there: what its own mapping network says of its features.

    python -m training.add_directions --bundle engines/demo gaze_x gaze_y eye_contact

A name that the bundle has already is refused without `--replace`. `--state` holds `features.npz`, the meaning of the features
that the bundle's networks were trained with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
import torch
from doppelgan.export.networks.reader import generator_state
from doppelgan.runtime import open_bundle
from doppelgan.runtime.bundle.effects import measure_effects
from doppelgan.runtime.edit import Direction
from doppelgan.runtime.edit.effect import effects_to_arrays
from doppelgan.runtime.host.files import sha256_of, write_whole
from doppelgan.runtime.manifest import MANIFEST, DataFile, write_manifest

from training.fit.directions import EYE_CONTACT, attributes_of, eye_contact, find_directions, gaze_effect, sampled_features
from training.fit.networks.stylegan2 import load_generator
from training.fit.people.features import FeatureCodec
from training.from_bundle import STATE
from training.make_bundle import as_direction

_PEOPLE = 2000


def add_directions(folder: Path, names: list[str], state: Path = STATE, replace: bool = False) -> list[str]:
    """Adds directions by these names; returns those that the bundle has now. ValueError for names that cannot be added."""
    codec = FeatureCodec.load(state / "features.npz")
    with open_bundle(folder, compiled=False) as bundle:
        mapping, _ = load_generator(generator_state(bundle, "photo"))
        features = torch.from_numpy(sampled_features(_PEOPLE, names=codec.names))
        attributes = attributes_of(codec.names)
        fitted = find_directions(codec, mapping, features)
        offered = {name: as_direction(name, fitted[name], bundle.n_styles, attributes[name]) for name in fitted}
        returning = {d.name: d for d in eye_contact(codec, mapping, features, fitted, bundle.n_styles)}
        wanted: dict[str, Direction] = {}
        for name in names:
            chosen = returning if name == EYE_CONTACT else {name: offered[name]} if name in offered else {}
            if not chosen or (chosen.keys() & bundle.directions.keys() and not replace):
                what = "which the bundle has already" if chosen else f"expected one of {', '.join([*offered, EYE_CONTACT])}"
                raise ValueError(f"direction {name!r}: {what}")
            wanted |= chosen
        directions = {**bundle.directions, **wanted}
        manifest, effects = bundle.manifest, bundle.effects
    arrays = {key: array for direction in directions.values() for key, array in direction.to_arrays().items()}
    file = folder / manifest.files["directions"].file
    aside = file.with_name(f".{file.name}.part.npz")
    np.savez(aside, **arrays)  # type: ignore[arg-type]
    aside.replace(file)
    files = {**manifest.files, "directions": DataFile(file.name, sha256_of(file))}
    infos = {name: direction.info for name, direction in directions.items()}
    manifest = msgspec.structs.replace(manifest, files=files, directions=infos)
    write_whole(folder / MANIFEST, write_manifest(manifest))
    with open_bundle(folder, compiled=False) as bundle:
        looks = [name for name, direction in wanted.items() if not direction.where]
        eyes = {name: gaze_effect(name) for name in wanted if name not in looks}
        measured = effects_to_arrays({**effects, **measure_effects(bundle, looks), **eyes})
    file = folder / "effects.npz"
    np.savez_compressed(file, **measured)  # type: ignore[arg-type]
    files = {**manifest.files, "effects": DataFile(file.name, sha256_of(file))}
    write_whole(folder / MANIFEST, write_manifest(msgspec.structs.replace(manifest, files=files)))
    return list(directions)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.add_directions", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="+")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--replace", action="store_true", help="directions of these names that are there")
    parser.add_argument("--state", type=Path, default=STATE)
    arguments = parser.parse_args()
    try:
        print(", ".join(add_directions(arguments.bundle, arguments.names, arguments.state, arguments.replace)))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
