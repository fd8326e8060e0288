"""Two people mixed, one's coarse layers and the other's fine ones.

python examples/06_mix_two_people.py a.jpg b.jpg mixed.png
"""

import sys

import numpy as np
from doppelgan.runtime import Pipeline, mix, open_bundle, read_image, write_image

*sources, target = sys.argv[1:]
bundle = open_bundle("demo")
codes = []
for source in sources:
    pipeline = Pipeline(bundle, smoothing=False)
    pipeline.process(read_image(source))
    codes.append(next(iter(pipeline.people.values())).own_codes)

a, b = codes
row = [a, mix(a, b, rows="fine"), mix(a, b, weight=0.5), mix(b, a, rows="fine"), b]
pictures = bundle.synthesize(np.concatenate(row))
strip = np.concatenate(list(pictures), axis=2)[::-1].transpose(1, 2, 0)
write_image(target, np.clip(strip * 127.5 + 127.5, 0, 255).round().astype(np.uint8))
