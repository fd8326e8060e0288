"""The native module's tests under sanitizers: ``python -m tests.hard.sanitize [address|thread]``.

Builds the module with GCC's or Clang's sanitizers beside the installed one and runs the tests of kernels and
networks with it: out-of-bounds accesses, use after free, undefined behavior; with ``thread``, data races.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
LIBRARIES = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
OPTIONS = {
    # The interpreter keeps memory until it ends; nanobind's own warnings are not ours.
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    # A child of a process with threads is what one of the tests is about.
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:die_after_fork=0",
}
# Compiled without it: the sanitizer sees their memory, not their locks.
FOREIGN = ("onnxruntime", "libopenblas", "libtorch")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hard.sanitize", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=list(SANITIZERS), default="address")
    parser.add_argument("tests", nargs="*", help="default: all of the native module")
    options = parser.parse_args()
    build = ROOT / "build" / f"sanitize-{options.kind}"
    out = build / "out"
    configure = [
        *("cmake", "-S", str(ROOT), "-B", str(build)),
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DDOPPELGAN_SANITIZE={SANITIZERS[options.kind]}",
        f"-DNATIVE_OUTPUT_DIRECTORY={out}",
    ]
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)], check=True)
    module = next(out.glob("_native*"))
    preload = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in LIBRARIES[options.kind]
    ]
    tests = options.tests or sorted(str(path) for path in (ROOT / "tests/runtime").glob("test_native*.py"))
    unseen = build / "foreign.txt"
    unseen.write_text("".join(f"race:{name}\n" for name in FOREIGN))
    environment = {
        **os.environ,
        **OPTIONS,
        "TSAN_OPTIONS": f"{OPTIONS['TSAN_OPTIONS']}:suppressions={unseen}",
        "LD_PRELOAD": ":".join(preload),
        "DOPPELGAN_SANITIZED": str(module),
    }
    # A report is written past Python: were file descriptors captured, it would be lost with the process.
    command = [sys.executable, "-m", "pytest", "-q", "--capture=sys", "-p", "tests.hard.sanitized", *tests]
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
