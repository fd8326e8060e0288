"""Live: a camera (or file, or stream) in, a window (or file, or virtual camera) out, edits turned on the way.

python examples/02_live_loop.py 0 window
python examples/02_live_loop.py clip.mp4 out.mp4
"""

import sys
from dataclasses import replace

from doppelgan.runtime import Pipeline, open_bundle, open_sink, open_source

source, target = sys.argv[1:]
pipeline = Pipeline(open_bundle("demo"), style="toon", composite="replace")

# `run_live` and `run_files` do this with capture, inference and output overlapped; this is the plain loop.
with open_source(source) as frames, open_sink(target, like=frames) as sink:
    for frame in frames:
        pipeline.edits = {"hair_length": 0.5 if frame.time_s > 1 else 0.0}  # acts at once
        sink.write(replace(frame, image=pipeline.process(frame.image, frame.time_s)))
print(pipeline.clock.report().frames, "frames with a face")
