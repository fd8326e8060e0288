"""``doppelgan doctor``: what this machine can run, and what to install for the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..backends import installed
from ..bundle.compiled import explain, find_compiled
from ..errors import BackendError, BundleError
from ..host.opencv import build_says, load_opencv
from ..manifest import MANIFEST, read_manifest
from ..places import list_bundles

_GSTREAMER = "needs an OpenCV that is built with it, as JetPack's"
OK, NO = "[green]yes[/green]", "[yellow]no[/yellow]"


@click.command("doctor")
def command() -> None:
    """Tell what this machine can run and what is missing.

    \b
    doppelgan doctor
    """
    console = Console(highlight=False)
    console.print(
        f"doppelgan {_version('doppelgan')} · Python {platform.python_version()} · "
        f"{platform.system()} {platform.machine()} · {os.cpu_count()} cores · {_processor()}"
    )
    table = Table("what", "here", "detail")
    for what, here, detail in [*_pixels(), *_compiled(), *_backends(), *_devices(), *_extras()]:
        table.add_row(escape(what), OK if here else NO, escape(detail))  # [extras] are no markup
    console.print(table)


Row = tuple[str, bool, str]


def _pixels() -> list[Row]:
    from ..native import KERNELS

    native = KERNELS == "native"
    missing = "slower NumPy twins are used; install a C++17 compiler and reinstall doppelgan"
    bundles = ", ".join(sorted(path.name for path in list_bundles()))
    return [
        ("native pixel kernels", native, "compiled" if native else missing),
        ("bundles", bool(bundles), bundles or "none found; set DOPPELGAN_ENGINES or run `doppelgan export`"),
    ]


def _compiled() -> list[Row]:
    """One row per bundle: is there a record of `doppelgan compile` that holds here?"""
    rows = []
    for path in list_bundles():
        try:
            manifest = read_manifest((path / MANIFEST).read_bytes(), str(path))
        except (OSError, BundleError):
            continue
        used = find_compiled(path, manifest) is not None
        rows.append((f"bundle {path.name} tuned", used, explain(path, manifest)))
    return rows


def _backends() -> list[Row]:
    import onnxruntime

    from ..backends import onnxruntime_cuda

    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    tensorrt = _has("tensorrt") or _has("tensorrt_rtx")
    own = installed("native")
    return [
        ("ONNX Runtime", True, f"{onnxruntime_cuda.package()}: {', '.join(providers)}{_two_of_one_name()}"),
        ("ONNX Runtime on the GPU", *onnxruntime_cuda.really_runs()),
        ("native synthesis and encoders", own, "" if own else "needs a C++17 compiler, and AVX2 or aarch64"),
        ("OpenVINO", _has("openvino"), _version("openvino") or 'pip install "doppelgan[openvino]"'),
        ("TensorRT", tensorrt, "importable" if tensorrt else "JetPack brings it; docs/jetson.md"),
    ]


def _two_of_one_name() -> str:
    """onnxruntime and onnxruntime-gpu unpack into the same folder: the later one wins, in parts."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    if len(both) < 2:
        return ""
    return "; both packages are installed and overwrite each other: uninstall both, then install one"


def _devices() -> list[Row]:
    gpu = sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))
    jetson = Path("/etc/nv_tegra_release").exists()
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or sys.platform != "linux"
    return [
        ("NVIDIA GPU", bool(gpu) or jetson, "Jetson" if jetson else ", ".join(gpu) or "CPU only"),
        ("camera", bool(cameras), ", ".join(cameras) or "none; use a file, a stream or `test:`"),
        ("display", display, "" if display else "no window; write to a file, a stream or a virtual camera"),
        *_opencv(),
    ]


def _extras() -> list[Row]:
    needs = {
        "export checkpoints": ("torch", "export"),
        "virtual camera": ("pyvirtualcam", "live"),
        "the page": ("uvicorn", "serve"),
        "the page over WebRTC": ("aiortc", "webrtc"),
    }
    return [
        (what, _has(module), _version(module) or f'pip install "doppelgan[{extra}]"')
        for what, (module, extra) in needs.items()
    ]


def _opencv() -> list[Row]:
    get = 'pip install "doppelgan[live]"'
    try:
        opencv = load_opencv("OpenCV", BackendError)
    except BackendError as error:
        missing = get if not _has("cv2") else str(error)
        return [("windows", False, missing), ("GStreamer cameras", False, f"{_GSTREAMER}; docs/jetson.md")]
    gui = build_says(opencv, "GUI").upper() not in ("NONE", "NO")
    gstreamer = build_says(opencv, "GStreamer").startswith("YES")
    release = f"OpenCV {opencv.__version__}"
    return [
        (
            "windows",
            gui,
            release if gui else f"{release} is headless; pip install opencv-python instead",
        ),
        ("GStreamer cameras", gstreamer, release if gstreamer else f"{_GSTREAMER}; docs/jetson.md"),
    ]


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
