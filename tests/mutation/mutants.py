"""Ways to break a file at one place, found in its syntax tree."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Mutant:
    """A file with one broken place."""

    file: str  # below the root
    lines: range  # of the statement, without the block that it may head
    before: str  # the line, as ast.unparse writes it
    after: str
    code: CodeType  # of the whole broken module, its lines as in the file
    at_import: bool  # the place runs when the module is imported: constants, defaults, decorators

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same while the file grows elsewhere."""
        return self.file, f"{self.before} -> {self.after}"

    def __str__(self) -> str:
        return f"{self.file}:{self.lines.start}: {self.before}  ->  {self.after}"


_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
# Arguments that say something to people only, or save memory and change nothing else.
_SAID = ("help", "metavar", "show_default", "slots")

Change = Callable[[], None]  # breaks the tree in place


def sample(files: list[str], count: int, seed: int) -> tuple[list[Mutant], int]:
    """``count`` mutants of the files (0: all), by file and line; and how many places there are."""
    trees = {file: ast.parse((ROOT / file).read_text(encoding="utf-8")) for file in files}
    places = [(file, number) for file in files for number in range(len(list(_changes(trees[file]))))]
    order = random.Random(seed).sample(places, len(places))
    mutants: list[Mutant] = []
    for file, number in order:
        if count and len(mutants) == count:
            break
        mutant = _mutant(file, number)
        if mutant.before != mutant.after:
            mutants.append(mutant)
    return sorted(mutants, key=lambda mutant: (mutant.file, mutant.lines.start)), len(places)


def _mutant(file: str, number: int) -> Mutant:
    """The file's place of that number, broken."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    plain = ast.unparse(tree)
    node, change = list(_changes(tree))[number]
    functions = [one for one in ast.walk(tree) if isinstance(one, _FUNCTIONS)]
    at_import = not any(node is inner for one in functions for part in _body(one) for inner in ast.walk(part))
    place = _statement(tree, node)
    change()
    ast.fix_missing_locations(tree)
    lines = zip(plain.splitlines(), ast.unparse(tree).splitlines(), strict=False)
    before, after = next(((a.strip(), b.strip()) for a, b in lines if a != b), ("", ""))
    return Mutant(file, place, before, after, compile(tree, str(ROOT / file), "exec"), at_import)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _body(function: ast.AST) -> list[ast.AST]:
    body = function.body  # type: ignore[attr-defined]
    return body if isinstance(body, list) else [body]


def _statement(tree: ast.Module, node: ast.AST) -> range:
    """The lines of the innermost statement around a node, without its block."""
    around = [one for one in ast.walk(tree) if isinstance(one, ast.stmt) and node in ast.walk(one)]
    inner = min(around, key=lambda one: (one.end_lineno or one.lineno) - one.lineno)
    block = getattr(inner, "body", None)
    return range(inner.lineno, block[0].lineno if block else (inner.end_lineno or inner.lineno) + 1)


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, Change]]:
    """Every way to break the tree once, always in the same order, and where."""
    skipped = {id(inner) for node in ast.walk(tree) for inner in _said(node)}
    for node in list(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for change in _ways(node):
            yield node, change
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list):
                for at, statement in enumerate(block):
                    if _may_be_left_out(statement):
                        yield statement, _set(block, at, ast.copy_location(ast.Pass(), statement))


def _ways(node: ast.AST) -> Iterator[Change]:
    """Ways to break one node."""
    if isinstance(node, ast.Compare):
        for i, comparison in enumerate(node.ops):
            if type(comparison) in _COMPARISONS:
                yield _set(node.ops, i, _COMPARISONS[type(comparison)]())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _ARITHMETIC:
        yield _put(node, "op", _ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield _put(node, "op", ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _put(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield _put(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield _put(node, "value", 2 * node.value + 1)  # type: ignore[operator]
    elif isinstance(node, ast.keyword):
        if node.arg is not None and not isinstance(node.value, ast.Constant):
            yield _put(node, "value", ast.copy_location(ast.Constant(None), node.value))  # thrown away
    elif isinstance(node, ast.IfExp) or (
        isinstance(node, (ast.If, ast.While)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call))
    ):
        yield _put(node, "test", ast.UnaryOp(ast.Not(), node.test))


def _put(node: ast.AST, name: str, value: object) -> Change:
    return lambda: setattr(node, name, value)


def _set(items: list, at: int, value: object) -> Change:  # type: ignore[type-arg]
    return lambda: items.__setitem__(at, value)


def _may_be_left_out(node: ast.AST) -> bool:
    """Whether the program is one without this statement, if a broken one."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        return isinstance(target, (ast.Attribute, ast.Subscript))
    return isinstance(node, ast.Raise)


def _said(node: ast.AST) -> Iterator[ast.AST]:
    """What says something to people or to the type checker only: messages, help, annotations."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        yield from ast.walk(node.exc)
    if isinstance(node, ast.keyword) and node.arg in _SAID:
        yield from ast.walk(node)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        yield from ast.walk(node)
    for name in ("annotation", "returns"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from ast.walk(inner)
