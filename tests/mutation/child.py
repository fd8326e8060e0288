"""Child processes: one that watches the tests of the code as it is, and one for each mutant.

Tests are collected once, in a process that forks for every mutant: the child gives the functions of the
broken file their broken code and runs its tests. What runs at import needs a child that imports it anew.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from .mutants import ROOT, Mutant

IMPORT = ""  # the context of what runs while modules are imported
LONGEST_S = 2.0  # slower tests are asked only where there are no others: many mutants, each in seconds
SHARED = "fixture "  # the context of fixtures that several tests share, followed by the node they belong to


LATE = -1000  # in the place of an exit code


class Fate(IntEnum):
    """What became of a mutant."""

    SURVIVED = 0
    KILLED = 1
    HUNG = 2  # the tests did not end in time, which is noticed as well


@dataclass
class Seen:
    """What the tests did with the code as it is."""

    is_green: bool
    durations_s: dict[str, float] = field(default_factory=dict)  # test -> set-up, call and teardown
    # file below the root -> line -> contexts that ran it: tests, shared fixtures, IMPORT
    contexts: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    pace: float = 1.0  # seconds that passed for one of processor time: what else the machine did

    def runs_at_import(self, mutant: Mutant) -> bool:
        lines = self.contexts[mutant.file]
        return (
            mutant.at_import
            or any(IMPORT in lines.get(line, ()) for line in mutant.lines)
            or _other_closures(mutant)  # whose code no function that is there can be given
        )

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Those that run the broken place, fastest first; for what runs at import, any line of its file."""
        lines = self.contexts[mutant.file]
        if self.runs_at_import(mutant):
            contexts = {one for line in lines.values() for one in line if one != IMPORT}
        else:
            contexts = {one for line in mutant.lines for one in lines.get(line, ())}
        shared = tuple(one.removeprefix(SHARED) for one in contexts if one.startswith(SHARED))
        # What a fixture of a module runs may show in each of the module's tests.
        tests = [test for test in self.durations_s if test in contexts or test.startswith(shared)]
        quick = [test for test in tests if self.durations_s[test] < LONGEST_S]
        return sorted(quick or tests, key=self.durations_s.__getitem__)

    def limit_s(self, tests: Sequence[str]) -> float:
        """How long the tests may take before a mutant counts as hanging."""
        return self.pace * (20 + 5 * sum(self.durations_s[test] for test in tests))


def watch(files: list[str], test_files: list[str]) -> Seen:
    """Run the tests on the code as it is."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        answer = Path(folder) / "seen"

        def work() -> int:
            plugin = _Watching(files)
            code = _pytest(test_files, plugin)
            answer.write_bytes(pickle.dumps(plugin.seen(not code)))
            return 0

        in_child(work, 1800)
        return pickle.loads(answer.read_bytes()) if answer.exists() else Seen(False)


def are_killed(
    mutants: Sequence[tuple[Mutant, list[str]]],  # with the tests to be asked, None of whom is empty
    seen: Seen,
    report: Callable[[int, Fate], None],  # number of the mutant
) -> None:
    """Ask the tests of each mutant."""
    late = [number for number, (mutant, _) in enumerate(mutants) if not seen.runs_at_import(mutant)]
    if late:
        read, write = os.pipe()
        test_files = _files(test for number in late for test in mutants[number][1])

        def work() -> int:
            forking = _Forking([mutants[number] for number in late], seen, write)
            return _pytest(test_files, forking)

        def listen() -> None:
            with os.fdopen(read, "rb") as answers:
                for number in late:
                    if answer := answers.read(1):
                        report(number, Fate(answer[0]))
                    else:
                        raise RuntimeError("the process that asks the tests has ended early")

        in_child(work, None, while_running=listen, ours=write)
    for number, (mutant, tests) in enumerate(mutants):
        if number not in late:
            report(number, _fate_at_import(mutant, tests, seen.limit_s(tests)))


def _fate_at_import(mutant: Mutant, tests: list[str], limit_s: float) -> Fate:
    def work() -> int:
        sys.meta_path.insert(0, _BrokenImport(mutant))
        return _pytest(_files(tests), _Chosen(tests), "-x")

    code = in_child(work, limit_s)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError(f"none of {len(tests)} tests was found again, as {tests[0]}")
    return _fate(code)


def _fate(code: int) -> Fate:
    return Fate.SURVIVED if code == 0 else Fate.HUNG if code == LATE else Fate.KILLED


class _Watching:
    """pytest plugin: which test runs which line, and how long each takes."""

    def __init__(self, files: list[str]) -> None:
        import coverage

        self.durations_s: dict[str, float] = {}
        self.files = files
        self.start_s = time.monotonic()
        self.coverage = coverage.Coverage(data_file=None, include=[str(ROOT / file) for file in files])
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        forget()  # or a test would get from an earlier one what it has to run itself
        self.coverage.switch_context(item.nodeid)
        self.context = item.nodeid
        start_s = time.process_time()  # of this process: what else runs on the machine does not count
        try:
            return (yield)
        finally:
            self.durations_s[item.nodeid] = time.process_time() - start_s

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        before, self.context = self.context, SHARED + request.node.nodeid.removesuffix(".")
        self.coverage.switch_context(self.context)
        try:
            return (yield)
        finally:
            self.context = before
            self.coverage.switch_context(before)

    def seen(self, is_green: bool) -> Seen:
        self.coverage.stop()
        data = self.coverage.get_data()
        contexts = {
            file: {line: set(names) for line, names in data.contexts_by_lineno(str(ROOT / file)).items()}
            for file in self.files
        }
        pace = (time.monotonic() - self.start_s) / max(sum(self.durations_s.values()), 1e-3)
        return Seen(is_green, dict(self.durations_s), contexts, max(1.0, pace))


class _Forking:
    """pytest plugin: instead of running all tests once, runs those of each mutant in a child of their own."""

    def __init__(self, mutants: Sequence[tuple[Mutant, list[str]]], seen: Seen, answers: int) -> None:
        self.mutants, self.seen, self.answers = mutants, seen, answers

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for mutant, tests in self.mutants:

            def work(mutant: Mutant = mutant, tests: list[str] = tests) -> int:
                replace_code(mutant)
                session.items = [items[test] for test in tests]
                session.config.option.maxfail = 1
                with contextlib.suppress(session.Failed, session.Interrupted):
                    session.config.hook.pytest_runtestloop(session=session)
                return int(session.testsfailed > 0)

            # In the child, hooks are called again; this one must not be.
            def child(work: Callable[[], int] = work) -> int:
                session.config.pluginmanager.unregister(self)
                return work()

            fate = _fate(in_child(child, self.seen.limit_s(tests)))
            os.write(self.answers, bytes([fate]))
        return True


class _Chosen:
    """pytest plugin: these tests alone, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


class _BrokenImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the broken module under the real one's name."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = "doppelgan." + mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        file = ROOT / self.mutant.file
        package = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=self, submodule_search_locations=package
        )

    def exec_module(self, module: object) -> None:
        exec(self.mutant.code, module.__dict__)


def replace_code(mutant: Mutant) -> None:
    """Give every function of the mutant's file, wherever it is held, the code that it has in the mutant.

    What such functions have remembered so far is forgotten.
    """
    broken = {(code.co_name, code.co_firstlineno): code for code in _codes(mutant.code)}
    path = str(ROOT / mutant.file)
    forget()
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename == path:
            one.__code__ = broken[one.__code__.co_name, one.__code__.co_firstlineno]


def forget() -> None:
    """Empty the caches of the project's functions."""
    gc.unfreeze()  # tests freeze what was there before them, and frozen objects are not listed
    for one in gc.get_objects():
        # Not isinstance, which asks every object for its class: some of torch answer with a warning.
        if type(one) is functools._lru_cache_wrapper and (one.__module__ or "").startswith("doppelgan"):
            one.cache_clear()


def _other_closures(mutant: Mutant) -> bool:
    """Whether a function lacks a variable of its surroundings, e.g. ``__class__`` without its ``super()``."""
    return _free_variables(mutant.code) != _unbroken(mutant.file)


def _free_variables(code: CodeType) -> dict[tuple[str, int], int]:
    """How many each function has, by its name and first line."""
    return {(one.co_name, one.co_firstlineno): len(one.co_freevars) for one in _codes(code)}


@functools.cache
def _unbroken(file: str) -> dict[tuple[str, int], int]:
    return _free_variables(compile((ROOT / file).read_text(encoding="utf-8"), file, "exec"))


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _files(tests: Any) -> list[str]:
    return list(dict.fromkeys(test.partition("::")[0] for test in tests))


def _pytest(files: list[str], plugin: object, *options: str) -> int:
    return int(
        pytest.main(
            [
                *("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(ROOT)),
                *("-c", str(ROOT / "pyproject.toml"), *options),
                *(str(ROOT / file) for file in files),
            ],
            plugins=[plugin],
        )
    )


def in_child(
    work: Callable[[], int],
    limit_s: float | None,  # None: the child has limits of its own
    while_running: Callable[[], None] | None = None,
    ours: int | None = None,  # a descriptor that only the child keeps
) -> int:
    """The answer of ``work`` in a process of its own, or LATE where it takes longer."""
    # What a broken program writes where it should not goes into a folder that nobody keeps.
    folder = tempfile.mkdtemp(prefix="mutant-")
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setpgid(0, 0)
            quiet = os.open(
                os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND
            )
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.chdir(folder)
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            code = work()
        finally:
            os._exit(code)
    if ours is not None:
        os.close(ours)
    if while_running is not None:
        while_running()
    end_s = time.monotonic() + (86400 if limit_s is None else limit_s)
    code = LATE
    while time.monotonic() < end_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # also what a broken test has left running
    if code == LATE:
        os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    return code
