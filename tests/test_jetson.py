"""What can be checked of a Jetson without one: Python 3.10, imports, the guide."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

RUNTIME = sorted((ROOT / "runtime").rglob("*.py"))
ENGINE_BUILDING = [
    ROOT / "export" / name
    for name in ("__init__.py", "engines.py", "variants/fp16.py", "onnx_files/graph_edit.py")
]
GUIDE = ROOT / "docs" / "jetson.md"

# Base dependencies; everything else is imported where it is used, and its absence explained.
BASE = {"av", "click", "msgspec", "numpy", "onnxruntime", "PIL", "rich", "doppelgan"}
# Modules that only their own sessions, or `doppelgan serve`, import.
PAGE = {"starlette", "uvicorn"}
OPTIONAL = {
    **{f"runtime/serve/{name}.py": PAGE for name in ("api", "app", "live", "openapi", "server")},
    "runtime/serve/webrtc.py": {"aiortc"},
    "runtime/backends/openvino.py": {"openvino"},
    "runtime/backends/tensorrt/cuda/pycuda.py": {"pycuda"},
}
# Added to the standard library after 3.10.
NEWER = {"tomllib", "typing.Self", "typing.override", "typing.Never", "typing.assert_never",
         "typing.Unpack", "typing.TypeVarTuple", "typing.NotRequired", "typing.Required", "datetime.UTC",
         "enum.StrEnum", "itertools.batched", "contextlib.chdir", "hashlib.file_digest"}  # fmt: skip


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


@pytest.mark.parametrize("path", [*RUNTIME, *ENGINE_BUILDING], ids=names([*RUNTIME, *ENGINE_BUILDING]))
def test_python_3_10_parses_it_and_has_what_it_uses(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    assert newer_than_3_10(tree) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import tomllib", ["tomllib"]),
        ("from typing import Self", ["typing.Self"]),
        ("import datetime\nx = datetime.UTC", ["datetime.UTC"]),
        ("try:\n    pass\nexcept* ValueError:\n    pass", ["except*"]),
        ("from typing import Any", []),
    ],
)
def test_the_check_sees_what_is_newer(source: str, found: list[str]) -> None:
    assert newer_than_3_10(ast.parse(source)) == found


def test_newer_syntax_is_refused_by_the_parser() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("type X = int", feature_version=(3, 10))


@pytest.mark.parametrize("path", RUNTIME, ids=names(RUNTIME))
def test_the_runtime_imports_base_dependencies_only(path: Path) -> None:
    allowed = BASE | OPTIONAL.get(path.relative_to(ROOT).as_posix(), set()) | set(sys.stdlib_module_names)
    assert imported_at_module_level(ast.parse(path.read_text(encoding="utf-8"))) <= allowed


def test_importing_the_runtime_and_the_engine_builder_pulls_in_no_desktop_package() -> None:
    heavy = [
        "torch",
        "onnx",
        "openvino",
        "matplotlib",
        "scipy",
        "PIL",
        "cv2",
        "tensorrt",
        "tensorrt_rtx",
        "cuda.bindings",
        "pycuda",
        "starlette",
        "uvicorn",
        "aiortc",
    ]
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "import doppelgan.runtime, doppelgan.runtime.backends.tensorrt, doppelgan.export.engines\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr


def test_commands_of_the_guide_exist() -> None:
    """Every `doppelgan` command and option in docs/jetson.md is one that the command line knows."""
    from doppelgan.runtime.cli import COMMANDS, group

    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    used = re.findall(
        r"doppelgan (\w+)([^`\n|]*)", "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    )
    commands = [(name, rest) for name, rest in used if name in COMMANDS]
    assert {name for name, _ in commands} >= {"compile", "live", "doctor"}
    for name, rest in commands:
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        stated = set(re.findall(r"(?<=\s)(--?[a-z][\w-]*)", re.sub(r"'[^']*'|\"[^\"]*\"", "", rest)))
        assert stated <= known, f"doppelgan {name}: {stated - known}"


def newer_than_3_10(tree: ast.AST) -> list[str]:
    """Names of the standard library, and syntax, that Python 3.10 lacks."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in NEWER]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in NEWER]
            found += [str(node.module)] if node.module in NEWER else []
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] if f"{node.value.id}.{node.attr}" in NEWER else []
        elif type(node).__name__ == "TryStar":
            found.append("except*")
    return found


def imported_at_module_level(tree: ast.Module) -> set[str]:
    """Top-level packages that importing the module imports; what only type checkers see does not count."""
    found: set[str] = set()

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.Import):
                found.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.If):
                visit(node.orelse if "TYPE_CHECKING" in ast.dump(node.test) else [*node.body, *node.orelse])
            elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
                visit(node.body)

    visit(tree.body)
    return found
