"""The one check command: ``python -m tests``. CI runs exactly this.

Style (ruff), then types (mypy, strict) beside behavior (pytest, warnings are errors); what fails first ends
it. Further arguments go to pytest: ``python -m tests -k align``. ``python -m tests --mutants`` breaks the
code on purpose instead (``mutation``).

The tree one stands in is what is tested: an installed copy that differs from it is refused.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("runtime", "export", "engines")
TYPED = ("doppelgan.runtime", "doppelgan.export", "training", "benchmarks")
HOW = 'run `pip install -e ".[dev]"`'


def source_tree() -> Path:
    """build/tree/doppelgan/* -> the top-level folders, so that tools see the import names."""
    tree = ROOT / "build" / "tree"
    package = tree / "doppelgan"
    package.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        link = package / name
        if not link.is_symlink():
            link.symlink_to(Path("..") / ".." / ".." / name, target_is_directory=True)
    return tree


def stale() -> Iterator[str]:
    """What of the importable doppelgan is not this tree, for people."""
    spec = importlib.util.find_spec("doppelgan.runtime")
    if spec is None or spec.origin is None:
        yield "doppelgan is not installed"
        return
    installed = Path(spec.origin).resolve().parent
    if installed != ROOT / "runtime":
        for package in ("runtime", "export"):
            for path in sorted((ROOT / package).rglob("*.py")):
                copy = installed.parent / path.relative_to(ROOT)
                if not copy.is_file() or copy.read_bytes() != path.read_bytes():
                    yield f"{copy} differs from {path.relative_to(ROOT)}"
    module = importlib.util.find_spec("doppelgan.runtime.native._native")
    if module is not None and module.origin is not None:
        built = Path(module.origin).stat().st_mtime
        for path in sorted((ROOT / "runtime" / "native").rglob("*")):
            if path.suffix in (".cpp", ".h") and path.stat().st_mtime > built:
                yield f"{path.relative_to(ROOT)} is newer than the compiled module"


def workers() -> list[str]:
    """pytest-xdist's options: a process per core and one for while others wait; a file's tests stay together.

    Files come in the order of ``conftest.LONGEST``, not by how many tests they have.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ["-n", str(min(cores, 8) + 1), "--dist", "loadfile", "--no-loadscope-reorder"] if cores > 1 else []


def in_memory() -> str | None:
    """A folder for temporary files that costs no disk: thousands are written over or renamed, and flushed.

    Tests leave behind what failed alone, so that a few hundred megabytes are enough.
    """
    folder = Path("/dev/shm")
    usable = folder.is_dir() and os.access(folder, os.W_OK)
    return str(folder) if usable and shutil.disk_usage(folder).free > 2 << 30 else None


def main() -> int:
    arguments = sys.argv[1:]
    if differences := list(stale()):
        shown = "\n  ".join(differences[:5])
        print(f"tests: expected this tree to be what is installed, got\n  {shown}\n{HOW}", file=sys.stderr)
        return 2
    if arguments[:1] == ["--mutants"]:
        from . import mutation

        return mutation.main(arguments[1:])
    print(f"testing {ROOT}", flush=True)
    environment = {**os.environ, "MYPYPATH": os.pathsep.join([str(source_tree()), str(ROOT)])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start Python, and import all of this, many times
    if "TMPDIR" not in environment and (memory := in_memory()):
        environment["TMPDIR"] = memory
    if workers():
        # Every core has a process of its own; torch's threads would wait for a turn by spinning, seven times
        # as long as one thread computes.
        environment.setdefault("OMP_NUM_THREADS", "1")
    python = [sys.executable, "-m"]
    style = [[*python, "ruff", "check", "."], [*python, "ruff", "format", "--check", "."]]
    types = [*python, "mypy", *(word for package in TYPED for word in ("-p", package))]
    behavior = [*python, "pytest", *workers(), *arguments]
    for step in style:
        print("$", " ".join(step[2:]), flush=True)
        if code := subprocess.call(step, cwd=ROOT, env=environment):
            return code
    return beside(types, behavior, environment)


def beside(quiet: Sequence[str], main: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run both at once, mypy having one process only; ``quiet`` says at its end what it has to say.

    The code of the one that fails first, which ends the other.
    """
    for step in (quiet, main):
        print("$", " ".join(step[2:]), flush=True)
    with tempfile.TemporaryFile() as said:
        aside = subprocess.Popen(quiet, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
        shown = subprocess.Popen(main, cwd=ROOT, env=environment)
        try:
            while shown.poll() is None and not aside.poll():
                time.sleep(0.1)
            if shown.poll() is None:
                shown.send_signal(signal.SIGINT)  # it tidies up
            if code := shown.wait():
                aside.terminate()
            failed = aside.wait()
        except KeyboardInterrupt:  # it has reached both
            failed = code = 128 + signal.SIGINT
            shown.wait()
        finally:
            for one in (aside, shown):
                if one.poll() is None:
                    one.kill()
        said.seek(0)
        print(said.read().decode(errors="replace"), end="", flush=True)
    return failed if failed > 0 else code


if __name__ == "__main__":
    sys.exit(main())
