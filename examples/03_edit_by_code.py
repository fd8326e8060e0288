"""Codes by hand: invert a face, move along a direction, draw.

python examples/03_edit_by_code.py me.jpg sheet.png
"""

import sys

import numpy as np
from doppelgan.runtime import Pipeline, open_bundle, read_image, truncate, write_image
from doppelgan.runtime.edit import Editor

source, target = sys.argv[1:]
bundle = open_bundle("demo")
pipeline = Pipeline(bundle, smoothing=False)
pipeline.process(read_image(source))
person = next(iter(pipeline.people.values()))

codes = bundle.encode(person.crop.pixels, landmarks=person.crop.landmarks[None])  # W+ [1, n_styles, w_dim]
editor = Editor(bundle.directions, bundle.latent_avg)
row = [
    editor.apply(codes, {"smile": strength}) for strength in np.linspace(*bundle.directions["smile"].range, 5)
]
row += [truncate(codes, bundle.latent_avg, psi) for psi in (0.7, 0.4)]  # toward the average face
pictures = bundle.synthesize(np.concatenate(row))  # RGB [N,3,R,R], -1..1

strip = np.concatenate(list(pictures), axis=2)[::-1].transpose(1, 2, 0)
write_image(target, np.clip(strip * 127.5 + 127.5, 0, 255).round().astype(np.uint8))
