"""Helper threads of the C++ kernels: right results, no idle work, no hang at fork or exit."""

from __future__ import annotations

import os
import sys

import pytest
from doppelgan.runtime.backends import installed

from .kernels import needs_native, run_python

# Work that is worth helpers, and its result; `together` does it on several Python threads at once.
WORK = """
import os, sys, threading, time
import numpy as np
from doppelgan.runtime import native
frame = np.random.default_rng(0).integers(0, 256, (700, 720, 3), dtype=np.uint8)
matrix = np.array([[1.2, 0, 4], [0, 1.2, 3]])
def work(threads=3):
    out = np.empty((3, 512, 512), np.float32)
    native.warp_crop(frame, matrix, out, threads)
    return out
alone = work(1)
def together(rounds):
    wrong = []
    def repeat():
        for _ in range(rounds):
            if not np.array_equal(work(), alone):
                wrong.append(1)
    callers = [threading.Thread(target=repeat) for _ in range(4)]
    for caller in callers: caller.start()
    for caller in callers: caller.join()
    return len(wrong)
def threads():
    return len(os.listdir("/proc/self/task"))
"""
needs_networks = pytest.mark.skipif(
    not installed("native"), reason="the networks need GCC or Clang, and AVX2 or aarch64"
)
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads through /proc")


@needs_native
class TestHelperThreads:
    def test_several_callers_at_once_get_their_own_results(self) -> None:
        assert run_python(WORK + "print(together(25))").stdout.strip() == "0"

    @needs_networks
    def test_networks_and_kernels_of_several_callers_at_once_get_their_own_results(self) -> None:
        code = """
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.places import find_bundle
wrong = []
def draw(seed):
    session = open_session(find_bundle("demo") / "synthesis.onnx", backend="native", threads=3)
    (spec,) = session.inputs
    codes = np.random.default_rng(seed).standard_normal(spec.shape).astype(np.float32)
    pictures = [session.run({spec.name: codes})["image"].copy() for _ in range(6)]
    wrong.extend(p for p in pictures if not np.array_equal(p, pictures[0]))
drawers = [threading.Thread(target=draw, args=(seed,)) for seed in range(3)]
for drawer in drawers: drawer.start()
kernels = together(20)
for drawer in drawers: drawer.join()
print(kernels, len(wrong))
"""
        assert run_python(WORK + code).stdout.split() == ["0", "0"]

    @needs_networks
    @on_linux
    def test_a_network_and_the_kernels_use_the_same_ones(self) -> None:
        code = """
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.places import find_bundle
work(3)
session = open_session(find_bundle("demo") / "synthesis.onnx", backend="native", threads=3)
(spec,) = session.inputs
before = threads()
for _ in range(3): session.run({spec.name: np.zeros(spec.shape, np.float32)})
print(threads() - before)
"""
        assert run_python(WORK + code).stdout.strip() == "0"

    @on_linux
    def test_start_when_first_wanted_and_stay(self) -> None:
        code = "before = threads(); work(1); print(threads() - before)\n"
        code += "for _ in range(20): work(3)\nprint(threads() - before)"
        assert run_python(WORK + code).stdout.split() == ["0", "2"]

    @on_linux
    def test_sleep_when_there_is_nothing_to_do(self) -> None:
        code = "work(); start = time.process_time(); time.sleep(0.5); print(time.process_time() - start)"
        assert float(run_python(WORK + code).stdout) < 0.1  # a helper that watched on would take 0.5

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_gets_its_own(self) -> None:
        code = """
work()
child = os.fork()
if child == 0:
    right = np.array_equal(work(), alone)
    os._exit((0 if right else 3) if threads() == 3 else 4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(work(), alone))
"""
        assert run_python(WORK + code, PYTHONWARNINGS="ignore").stdout.split() == ["0", "True"]

    def test_a_program_ends_while_they_watch_for_more(self) -> None:
        assert run_python(WORK + "print(together(5)); work()").stdout.strip() == "0"
