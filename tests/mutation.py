"""Mutants: the code broken on purpose, one place at a time, to see which breakages no test notices.

    python -m tests --mutants                     # a sample of every room of the flow
    python -m tests --mutants pipeline track      # these rooms
    python -m tests --mutants pipeline --count 0  # every mutant of a room

A mutant that turns a test red is killed. Survivors are listed with their line; those that change nothing that
anybody could notice stand in JUDGED with the reason, and do not count. Nothing on disk is changed: a child
process imports the broken module instead of the real one.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST_KILLED = 0.85
TIMEOUT_S = 120  # a mutant that hangs is noticed, too

# Room of the flow -> (what is broken, whose tests are to notice).
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pipeline": (("runtime/pipeline.py",), ("test_pipeline", "test_heart")),
    "align": (("runtime/align.py",), ("test_align",)),
    "encode": (("runtime/encode.py",), ("test_encode", "test_pipeline", "test_heart")),
    "synthesize": (("runtime/synthesize.py",), ("test_pipeline", "test_heart", "test_native_pair")),
    "track": (("runtime/track",), ("test_track", "test_track_search", "test_region", "test_expression")),
    "edit": (("runtime/edit/direction.py", "runtime/edit/editor.py"), ("test_edit",)),
    "composite": (("runtime/composite", "runtime/composite.py"), ("test_composite", "test_difference")),
    "schedule": (("runtime/schedule",), ("test_schedule",)),
    "bundle": (("runtime/bundle", "runtime/places.py"), ("test_bundle", "test_compiled")),
    "options": (("runtime/cli/options.py", "runtime/cli/live.py"), ("test_options", "test_cli")),
}

# Survivors that nobody could notice: (file, what became of the line) -> why.
JUDGED: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class Mutant:
    """One broken place."""

    file: str
    line: int
    before: str
    after: str
    source: str  # of the whole broken file

    @property
    def key(self) -> tuple[str, str]:
        return self.file, self.after

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


# Arguments that say something to people only.
_SAID = ("help", "metavar", "show_default")


def changes(node: ast.AST) -> Iterator[Callable[[ast.AST], None]]:
    """Ways to break one node, each done in place."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in _COMPARISONS:
                yield lambda n, i=i, op=op: n.ops.__setitem__(i, _COMPARISONS[type(op)]())  # type: ignore[misc]
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _ARITHMETIC:
        yield lambda n, op=node.op: setattr(n, "op", _ARITHMETIC[type(op)]())  # type: ignore[misc]
    elif isinstance(node, ast.BoolOp):
        other = ast.And if isinstance(node.op, ast.Or) else ast.Or
        yield lambda n, other=other: setattr(n, "op", other())  # type: ignore[misc]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda n: (
            setattr(n, "op", ast.Not()),
            setattr(n, "operand", ast.UnaryOp(ast.Not(), n.operand)),
        )  # type: ignore[attr-defined,func-returns-value]
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield lambda n: setattr(n, "value", not n.value)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield lambda n: setattr(n, "value", 2 * n.value + 1)  # type: ignore[attr-defined]
    elif (
        isinstance(node, ast.keyword)
        and node.arg not in (None, *_SAID)
        and not isinstance(node.value, ast.Constant)
    ):
        yield lambda n: setattr(n, "value", ast.Constant(None))  # an option thrown away
    elif isinstance(node, ast.IfExp):
        yield lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))  # type: ignore[attr-defined]


def statements(node: ast.AST) -> bool:
    """Whether leaving this statement out is worth a try."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return isinstance(target, (ast.Attribute, ast.Subscript))
    return isinstance(node, ast.Raise)


def mutants_of(file: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    source = (ROOT / file).read_text(encoding="utf-8")
    tree = ast.parse(source)
    skipped = {id(n) for n in ast.walk(tree) for n in _unmoved(n)}
    count = sum(1 for _ in ast.walk(tree))
    lines = source.splitlines()
    made: list[Mutant] = []
    for position in range(count):
        node = _nth(tree, position)
        if id(node) in skipped or (not hasattr(node, "lineno") and not isinstance(node, ast.keyword)):
            continue
        ways = list(changes(node))
        for change in ways:
            broken = copy.deepcopy(tree)
            change(_nth(broken, position))
            made.append(_mutant(file, lines, node, broken))
        if statements(node):
            broken = copy.deepcopy(tree)
            _leave_out(broken, _nth(broken, position))
            made.append(_mutant(file, lines, node, broken))
    made.sort(key=lambda mutant: mutant.line)
    return [mutant for mutant in made if mutant.before != mutant.after]


def _nth(tree: ast.AST, position: int) -> ast.AST:
    for i, node in enumerate(ast.walk(tree)):
        if i == position:
            return node
    raise IndexError(position)


def _unmoved(node: ast.AST) -> Iterator[ast.AST]:
    """What says something to people only: annotations, messages of errors, docstrings."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        yield from (inner for inner in ast.walk(node.exc))
    if isinstance(node, ast.keyword) and node.arg in _SAID:
        yield from ast.walk(node)
    for name in ("annotation", "returns"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from ast.walk(inner)


def _leave_out(tree: ast.AST, node: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and node in block:
                block[block.index(node)] = ast.copy_location(ast.Pass(), node)
                return


def _mutant(file: str, lines: list[str], node: ast.AST, broken: ast.Module) -> Mutant:
    source = ast.unparse(ast.fix_missing_locations(broken))
    plain = ast.unparse(ast.parse("\n".join(lines))).splitlines()
    changed = next(((a, b) for a, b in zip(plain, source.splitlines(), strict=False) if a != b), ("", ""))
    return Mutant(file, getattr(node, "lineno", 0), changed[0].strip(), changed[1].strip(), source)


class _Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
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


def killed(mutant: Mutant | None, tests: list[str]) -> bool:
    """Whether a child that imports the mutant sees a test fail, or hangs. None: with the code as it is."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        # What a broken program writes where it should not goes into a folder that nobody keeps.
        os.chdir(tempfile.mkdtemp(prefix="mutant-"))
        import pytest

        if mutant is not None:
            sys.meta_path.insert(0, _Broken(mutant))
        code = pytest.main(
            [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:xdist",
                "--rootdir",
                str(ROOT),
                "-c",
                str(ROOT / "pyproject.toml"),
                *tests,
            ]
        )
        os._exit(1 if code else 0)
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests --mutants")
    parser.add_argument("rooms", nargs="*", help=", ".join(ROOMS))
    parser.add_argument("--count", type=int, default=40, help="mutants per room; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if unknown := set(options.rooms) - ROOMS.keys():
        parser.error(f"expected rooms of {', '.join(ROOMS)}, got {', '.join(sorted(unknown))}")
    # Imported once, before the forks; nothing of doppelgan, which each child imports anew.
    for package in ("numpy", "pytest", "click", "msgspec", "rich", "PIL", "av", "onnxruntime", "onnx"):
        importlib.import_module(package)
    for name in [
        name for name in sys.modules if name.startswith("doppelgan") and not name.endswith("_native")
    ]:
        del sys.modules[name]
    sys.path.insert(0, str(ROOT))
    worst = 1.0
    for room in options.rooms or ROOMS:
        worst = min(worst, _room(room, options.count, options.seed))
    return 0 if worst >= LEAST_KILLED else 1


def _room(room: str, count: int, seed: int) -> float:
    """Print a room's survivors; returns the share of its mutants that were killed."""
    places, names = ROOMS[room]
    files = [
        path.relative_to(ROOT).as_posix()
        for place in places
        for path in sorted((ROOT / place).rglob("*.py") if (ROOT / place).is_dir() else [ROOT / place])
        if path.exists()
    ]
    tests = [str(path) for name in names for path in sorted((ROOT / "tests").rglob(f"{name}.py"))]
    mutants = [mutant for file in files for mutant in mutants_of(file)]
    if count and len(mutants) > count:
        mutants = sorted(random.Random(seed).sample(mutants, count), key=lambda m: (m.file, m.line))
    if killed(None, tests):
        print(f"{room}: its tests are red without any mutant; run them first", flush=True)
        return 0.0
    if not all(killed(Mutant(file, 0, "", "", "raise RuntimeError"), tests) for file in files):
        print(f"{room}: its tests do not import {', '.join(files)}", flush=True)
        return 0.0
    survivors = []
    for mutant in mutants:
        if not killed(mutant, tests):
            survivors.append(mutant)
            why = JUDGED.get(mutant.key)
            print(f"  {mutant}" + (f"  (nobody could notice: {why})" if why else ""), flush=True)
    counted = [mutant for mutant in mutants if mutant not in survivors or mutant.key not in JUDGED]
    alive = [mutant for mutant in survivors if mutant.key not in JUDGED]
    share = 1 - len(alive) / max(len(counted), 1)
    print(f"{room}: {share:.0%} of {len(counted)} killed, {len(alive)} survived", flush=True)
    return share
