"""A picture: older, with a beard.    python examples/01_picture.py me.jpg older.png"""

import sys

from doppelgan.runtime import Pipeline, open_bundle, read_image, write_image

source, target = sys.argv[1:]
bundle = open_bundle("demo")
print("edits:", ", ".join(f"{name} {d.range[0]:g}..{d.range[1]:g}" for name, d in bundle.directions.items()))

pipeline = Pipeline(bundle, edits={"grey": 0.8, "beard": 0.6})
edited = pipeline.process(read_image(source))  # BGR uint8 [H,W,3]
print("faces:", len(pipeline.people))
write_image(target, edited)
