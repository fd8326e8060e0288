"""A backend of your own: anything that runs an ONNX file. This one counts what it is asked.

python examples/04_own_backend.py
"""

from pathlib import Path

import numpy as np
from doppelgan.runtime import open_bundle, register_backend
from doppelgan.runtime.backends import open_session

runs: dict[str, int] = {}


class Counting:
    """See `doppelgan.runtime.backends.Session` for the contract."""

    def __init__(self, path, threads):
        self._name = path.stem
        self._session = open_session(path, backend="onnxruntime", threads=threads)
        self.inputs, self.outputs = self._session.inputs, self._session.outputs
        self.backend = "counting ONNX Runtime"

    def run(self, feeds, out=None):
        runs[self._name] = runs.get(self._name, 0) + 1
        return self._session.run(feeds, out)

    def close(self):
        self._session.close()


def open_counting(path: Path, *, threads=None, **options):
    return Counting(path, threads)


register_backend("counting", open_counting)
bundle = open_bundle("demo", backend="counting")
bundle.synthesize(np.repeat(bundle.latent_avg[None], 3, axis=0))
print(runs)
