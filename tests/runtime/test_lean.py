"""The runtime stays light: what it imports when it is used, and what it offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import doppelgan.runtime as runtime
import pytest
from doppelgan.runtime.bundle import find_bundle

from ..conftest import ROOT

# The bundle is opened as shipped: what a machine compiled for itself may name other backends, OpenVINO too.
HEAVY = ["torch", "onnx", "scipy", "matplotlib", "PIL", "openvino", "safetensors", "doppelgan.export"]
PUBLIC = {
    "BackendError", "Bundle", "BundleError", "BundleWriter", "CheckpointError", "Crop", "Direction",
    "DoppelganError", "EditError", "Face", "Frame", "ParityError", "Pipeline", "SinkError", "SourceError",
    "list_bundles", "load_directions", "open_bundle",
}  # fmt: skip
USES = {
    "import": "import doppelgan.runtime",
    "open a bundle": """
from doppelgan.runtime import open_bundle
open_bundle({bundle!r}, compiled=False).directions
""",
    "edit a frame": """
import numpy as np
from doppelgan.runtime import Pipeline, open_bundle
bundle = open_bundle({bundle!r}, compiled=False)
picture = bundle.synthesize(bundle.latent_avg[None])[0]
frame = np.clip(picture[::-1].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).astype(np.uint8)
for composite in ("face", "head", "replace"):
    pipeline = Pipeline(bundle, edits=dict.fromkeys(list(bundle.directions)[:1], 0.5), composite=composite)
    assert pipeline.process(np.pad(frame, ((40, 40), (40, 40), (0, 0)), mode="edge")).any()
    assert pipeline.people
""",
    "the command's help": """
from click.testing import CliRunner
from doppelgan.runtime.cli import COMMANDS, group
for name in COMMANDS:
    assert CliRunner().invoke(group, [name, "--help"]).exit_code == 0
""",
    "a video": """
from click.testing import CliRunner
from doppelgan.runtime.cli import group
arguments = ["test:64x48@30:2", "-o", {output!r}, "-b", {bundle!r}, "--backend", "onnxruntime"]
done = CliRunner().invoke(group, ["video", *arguments])
assert done.exit_code == 0, done.output
""",
}


@pytest.mark.parametrize("use", list(USES))
def test_no_heavy_package_is_loaded(use: str, tmp_path: Path) -> None:
    code = USES[use].format(
        bundle=str(find_bundle(ROOT / "engines" / "demo")), output=str(tmp_path / "out.mp4")
    )
    code = f"import sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr


def test_the_list_of_commands_loads_none_of_them() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from doppelgan.runtime.cli import group\n"
        "CliRunner().invoke(group, ['--help'])\n"
        "late = ['doppelgan.runtime.cli.video', 'doppelgan.runtime.bench']\n"
        "print([name for name in late if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_public_names_are_these() -> None:
    assert set(runtime.__all__) == PUBLIC
    assert len(runtime.__all__) == len(PUBLIC)
    for name in runtime.__all__:
        public = getattr(runtime, name)
        assert public.__module__.startswith("doppelgan.runtime")
        assert (public.__doc__ or "").strip(), name


def test_importing_everything_brings_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from doppelgan.runtime import *", names)
    assert set(names) - {"__builtins__"} == PUBLIC


def test_every_user_error_is_a_doppelgan_error() -> None:
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(runtime, name), runtime.DoppelganError)
