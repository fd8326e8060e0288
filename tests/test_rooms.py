"""Which room may use which: imports go down the floors, never up: the tree stays the architecture picture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A room is a file or a folder directly under runtime/ or export/; rooms of one floor do
# not know each other. A new room gets its floor here: as low as what it uses allows.
FLOORS = {
    "runtime": (
        {"errors", "face_mesh", "native"},
        {"types", "host"},
        {"manifest", "pictures", "presets", "timing"},
        {"places", "drift", "align"},
        {"backends", "edit", "source"},
        {"track", "synthesize", "composite", "sink"},
        {"encode", "schedule", "mark"},
        {"bundle"},
        {"pipeline"},
        {"measure", "demo"},
        {"serve"},
        {"cli"},
    ),
    "export": (
        {"checkpoints", "onnx_files", "trackers"},
        {"networks", "variants"},
        {"text"},
        {"directions", "engines", "tuning"},
        {"convert"},
    ),
}
# The runtime reaches the exporter only late, inside a function, from these rooms,
ASKS_EXPORT = {"cli", "measure"}
# and the exporter stands on these rooms of the runtime:
EXPORT_USES = {
    *("align", "backends", "bundle", "composite", "drift", "edit", "encode", "errors", "face_mesh", "host"),
    *(
        "manifest",
        "measure",
        "pictures",
        "pipeline",
        "places",
        "source",
        "synthesize",
        "timing",
        "track",
        "types",
    ),
}


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, late) of every import of this project in a file; late: inside a function."""
    package = ["doppelgan", *path.relative_to(ROOT).parent.parts]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    late = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in late
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", node.lineno, id(node) in late


@cache
def arrows() -> list[tuple[str, str, str, str, bool]]:
    """(file:line, half.room, half it asks, room it asks, late) for every import between rooms."""
    found = []
    for half in FLOORS:
        for path in sorted((ROOT / half).rglob("*.py")):
            parts = path.relative_to(ROOT / half).parts
            room = Path(parts[0]).stem
            if room == "__init__":
                continue  # the public face
            for module, line, late in imports(path):
                if not module.startswith("doppelgan."):
                    continue
                target = module.split(".")[1:]
                if target[0] not in FLOORS:
                    continue
                asked = target[1] if len(target) > 1 else ""
                where = f"{path.relative_to(ROOT).as_posix()}:{line}"
                if (target[0], asked) != (half, room):
                    found.append((where, f"{half}.{room}", target[0], asked, late))
    return found


def floor(half: str, room: str) -> int:
    for number, rooms in enumerate(FLOORS[half]):
        if room in rooms:
            return number
    pytest.fail(f"{half}/{room}: a new room; give it a floor in tests/test_rooms.py")


def rooms_of(half: str) -> set[str]:
    folder = ROOT / half
    return {
        path.stem
        for path in folder.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path.is_dir() and any(path.glob("*.py")))
    }


@pytest.mark.parametrize("half", list(FLOORS))
def test_every_room_has_a_floor(half: str) -> None:
    for room in rooms_of(half):
        floor(half, room)


def test_imports_go_down() -> None:
    upward = []
    for where, origin, half, asked, _ in arrows():
        own_half, room = origin.split(".")
        if half == own_half and asked in rooms_of(half) and floor(half, asked) >= floor(half, room):
            upward.append(f"{where}: {room} (floor {floor(half, room)}) -> {asked} ({floor(half, asked)})")
    assert upward == []


def test_the_halves_meet_where_it_is_said() -> None:
    wrong = []
    for where, origin, half, asked, late in arrows():
        own_half, room = origin.split(".")
        if own_half == "runtime" and half == "export" and not (late and room in ASKS_EXPORT):
            wrong.append(f"{where}: the runtime's {room} asks the exporter")
        if own_half == "export" and half == "runtime" and asked in rooms_of("runtime") - EXPORT_USES:
            wrong.append(f"{where}: the exporter asks the runtime's {asked}")
    assert wrong == []


def test_an_arrow_is_seen() -> None:
    """The reader of imports itself: relative, absolute, of a module or of a name in it, and late."""
    seen = {(origin, half, asked, late) for _, origin, half, asked, late in arrows()}
    assert ("runtime.pipeline", "runtime", "track", False) in seen
    assert ("runtime.measure", "export", "variants", True) in seen
    assert ("export.convert", "runtime", "manifest", False) in seen


DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
)
WRITTEN = re.compile(
    r"engines/(?!demo)|.*NAME|benchmarks/results|examples/\Z"
)  # what commands write, or a reader's own
PLACE = re.compile(r"`((?:runtime|export|engines|training|benchmarks|tests|docs|examples)/[\w./-]*)`")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_places_that_documents_name_are_there(name: str) -> None:
    places = PLACE.findall((ROOT / name).read_text(encoding="utf-8"))
    assert [place for place in places if not (ROOT / place).exists() and not WRITTEN.match(place)] == []


def test_the_architecture_page_shows_these_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = page.split("## Floors")[1].split("```")[1].strip().splitlines()
    assert [set(line.split()) for line in drawn] == list(reversed(FLOORS["runtime"]))


def test_contributing_names_every_room() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = page.split("## Where things are")[1].split("```")[1]
    missing = [room for half in FLOORS for room in rooms_of(half) if not re.search(rf"\b{room}\b", tree)]
    assert missing == []
