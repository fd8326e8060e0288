"""The runtime stays light: what it imports when it is used, and what it offers."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import doppelgan.runtime as runtime
import pytest
from doppelgan.runtime.bundle import find_bundle

from ..conftest import ROOT

# The bundle is opened as shipped: what a machine compiled for itself may name other backends, OpenVINO too.
HEAVY = ["torch", "onnx", "scipy", "matplotlib", "PIL", "openvino", "safetensors", "doppelgan.export"]
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
for composite in ("difference", "face", "head", "replace"):
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


DEMO = find_bundle(ROOT / "engines" / "demo")
# Where ``import cv2`` fails, as in the base install.
PRELUDE = """
import sys
sys.modules["cv2"] = None
from pathlib import Path
"""
WITHOUT_OPENCV = {
    "pictures": """
output = Path({output!r})
from doppelgan.runtime import read_image, write_image
import numpy as np
for suffix in ("png", "jpg", "webp", "tif"):
    write_image(output / f"a.{{suffix}}", np.full((48, 64, 3), (10, 100, 200), np.uint8))
    assert abs(read_image(output / f"a.{{suffix}}").astype(int) - (10, 100, 200)).max() < 8
""",
    "sources and sinks": """
output = Path({output!r})
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source
for text in ("a.mp4", "shots/%03d.png", "shots/%03d.jpg"):
    with open_source("test:64x48@30:3") as source, open_sink(output / text, like=source) as sink:
        for frame in source:
            sink.write(frame)
for text in ("a.mp4", "shots/%d.png", "shots/001.jpg"):
    with open_source(output / text) as source:
        assert sum(1 for frame in source) == (3 if text != "shots/001.jpg" else 1)
""",
    "a camera and a window say what to install": """
from doppelgan.runtime.errors import SinkError, SourceError
from doppelgan.runtime.sink import open_sink
from doppelgan.runtime.source import open_source
import os
os.environ["DISPLAY"] = ":0"
for name, error, run in (
    ("doppelgan[live]", SinkError, lambda: open_sink("window")),
    ("JetPack", SourceError, lambda: open_source("gst:nvarguscamerasrc")),
):
    try:
        run()
    except error as said:
        assert name in str(said), said
    else:
        raise AssertionError(name)
""",
    "drift and inputs": """
import numpy as np
from doppelgan.runtime.drift import ms_ssim
from doppelgan.runtime.pictures.resample import resample
picture = np.zeros((3, 64, 64), np.float32)
assert ms_ssim(picture, resample(resample(picture, (32, 32)), (64, 64))) == 1
""",
    "the demo": """
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.demo import run_demo
bundle = open_bundle({bundle!r}, compiled=False)
for name in list(bundle.directions)[1:]:
    del bundle.directions[name]  # a cell of the sheet for each end of one is enough
made = run_demo(bundle, Path({output!r}), frames=2)
assert made.frames_with_face == 2
assert all(path.stat().st_size > 300 for path in made.files.values()), made.files
""",
    "sheets, cards and the doctor": """
from click.testing import CliRunner
from doppelgan.runtime.cli.doctor import command
from doppelgan.runtime.pictures.sheet import grid
from doppelgan.runtime.schedule.watchdog import Lost, no_signal
assert grid([[("a", no_signal(Lost((64, 48), "", 1.0, None, None)))]]).shape == (180, 160, 3)
done = CliRunner().invoke(command)
assert done.exit_code == 0, done.output
assert "doppelgan[live]" in done.output
""",
}


@pytest.mark.parametrize("use", list(WITHOUT_OPENCV))
def test_it_works_without_opencv(use: str, tmp_path: Path) -> None:
    code = PRELUDE + WITHOUT_OPENCV[use].format(bundle=str(DEMO), output=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("use", list(USES))
def test_no_heavy_package_is_loaded(use: str, tmp_path: Path) -> None:
    code = USES[use].format(bundle=str(DEMO), output=str(tmp_path / "out.mp4"))
    code = f"import sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["[]"]), done.stderr


def test_the_list_of_commands_loads_none_of_them() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from doppelgan.runtime.cli import group\n"
        "CliRunner().invoke(group, ['--help'])\n"
        "late = ['doppelgan.runtime.cli.video', 'doppelgan.runtime.measure.bench']\n"
        "print([name for name in late if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    names: dict[str, object] = {}
    exec("from doppelgan.runtime import *", names)
    assert set(names) - {"__builtins__"} == set(runtime.__all__)
    for name in runtime.__all__:
        public = getattr(runtime, name)
        assert public.__module__.startswith("doppelgan.runtime")
        assert (public.__doc__ or "").strip(), name


def test_live_use_is_public_and_loaded_when_used() -> None:
    code = (
        "import sys, doppelgan.runtime as runtime\n"
        "before = 'av' in sys.modules\n"
        "runtime.open_source, runtime.open_sink, runtime.run_live, runtime.run_files\n"
        "print(before, 'av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert runtime.__version__ == metadata.version("doppelgan")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = runtime.nothing


@pytest.mark.parametrize("package", ["runtime", "export"])
def test_types_are_told_to_type_checkers(package: str) -> None:
    assert (resources.files(f"doppelgan.{package}") / "py.typed").is_file()


def test_every_user_error_is_a_doppelgan_error() -> None:
    for name in runtime.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(runtime, name), runtime.DoppelganError)
