"""A pytest plugin that puts the module built by `tests.hard.sanitize` in the installed one's place."""

from __future__ import annotations

import importlib.util
import os
import sys

_NAME = "doppelgan.runtime.native._native"
_spec = importlib.util.spec_from_file_location(_NAME, os.environ["DOPPELGAN_SANITIZED"])
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_NAME] = _module
_spec.loader.exec_module(_module)
