"""A pytest run in a child process that imports a broken module."""

from __future__ import annotations

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
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .mutants import ROOT, Mutant

IMPORT = ""  # the context of what runs while modules are imported
LONGEST_S = 2.0  # slower tests are asked only where there are no others: many mutants, each in seconds
SHARED = "fixture "  # the context of fixtures that several tests share, followed by the node they belong to


@dataclass
class Seen:
    """What the tests did with the code as it is."""

    is_green: bool
    durations_s: dict[str, float] = field(default_factory=dict)  # test -> set-up, call and teardown
    # file below the root -> line -> contexts that ran it: tests, shared fixtures, IMPORT
    contexts: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)  # what was imported in the end

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Those that run the broken place, fastest first; for what runs at import, any line of its file."""
        lines = self.contexts[mutant.file]
        if mutant.at_import:
            contexts = {one for line in lines.values() for one in line if one != IMPORT}
        else:
            contexts = {one for line in mutant.lines for one in lines.get(line, ())}
        shared = tuple(one.removeprefix(SHARED) for one in contexts if one.startswith(SHARED))
        # What a fixture of a module runs may show in each of the module's tests.
        tests = [test for test in self.durations_s if test in contexts or test.startswith(shared)]
        quick = [test for test in tests if self.durations_s[test] < LONGEST_S]
        return sorted(quick or tests, key=self.durations_s.__getitem__)


class _BrokenImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the broken source under the real module's name."""

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
        exec(compile(self.mutant.source, str(ROOT / self.mutant.file), "exec"), module.__dict__)


class _Chosen:
    """pytest plugin: these tests alone, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


class _Watched:
    """pytest plugin: which test runs which line, and how long each takes."""

    def __init__(self, files: list[str]) -> None:
        import coverage

        self.durations_s: dict[str, float] = defaultdict(float)
        self.files = files
        self.coverage = coverage.Coverage(data_file=None, include=[str(ROOT / file) for file in files])
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        self.context = item.nodeid
        return (yield)

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

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations_s[report.nodeid] += report.duration

    def seen(self, is_green: bool) -> Seen:
        self.coverage.stop()
        data = self.coverage.get_data()
        contexts = {
            file: {line: set(names) for line, names in data.contexts_by_lineno(str(ROOT / file)).items()}
            for file in self.files
        }
        return Seen(is_green, dict(self.durations_s), contexts, sorted(sys.modules))


def watch(files: list[str], test_files: list[str]) -> Seen:
    """Run the tests on the code as it is."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        answer = Path(folder) / "seen"

        def work() -> int:
            plugin = _Watched(files)
            code = _pytest(test_files, plugin)
            answer.write_bytes(pickle.dumps(plugin.seen(not code)))
            return 0

        _in_child(work, 1800)
        return pickle.loads(answer.read_bytes()) if answer.exists() else Seen(False)


def is_killed(mutant: Mutant, tests: list[str], limit_s: float) -> bool:
    """Whether one of the tests fails with the mutant, or nothing comes to an end."""

    def work() -> int:
        sys.meta_path.insert(0, _BrokenImport(mutant))
        return _pytest(list(dict.fromkeys(test.partition("::")[0] for test in tests)), _Chosen(tests), "-x")

    code = _in_child(work, limit_s)
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise RuntimeError(f"none of {len(tests)} tests was found again, as {tests[0]}")
    return code != 0


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


def _in_child(work: Any, limit_s: float) -> int:
    """The answer of ``work`` in a process of its own, or -1 where it takes longer."""
    # What a broken program writes where it should not goes into a folder that nobody keeps.
    folder = tempfile.mkdtemp(prefix="mutant-")
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setpgid(0, 0)
            quiet = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.chdir(folder)
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            code = work()
        finally:
            os._exit(code)
    end_s = time.monotonic() + limit_s
    code = -1
    while time.monotonic() < end_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.01)
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    return code
