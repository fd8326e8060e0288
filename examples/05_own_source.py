"""Frames from anywhere: here they are drawn.    python examples/05_own_source.py out.mp4"""

import sys
from dataclasses import replace

import numpy as np
from doppelgan.runtime import Frame, Pipeline, open_bundle, open_sink

target = sys.argv[1]
bundle = open_bundle("demo")
pipeline = Pipeline(bundle, edits={"glasses": 1.0})


def frames(count=10):
    """A person of the generator's walks across a grey wall."""
    face = bundle.synthesize(bundle.latent_avg[None])[0][::-1].transpose(1, 2, 0)
    face = np.clip(face * 127.5 + 127.5, 0, 255).astype(np.uint8)
    for i in range(count):
        frame = np.full((360, 640, 3), 90, np.uint8)
        frame[52 : 52 + 256, 100 + 8 * i : 356 + 8 * i] = face
        yield Frame(frame, index=i, time_s=i / 30)


with open_sink(target, rate=30) as sink:
    for frame in frames():
        sink.write(replace(frame, image=pipeline.process(frame.image, frame.time_s)))
