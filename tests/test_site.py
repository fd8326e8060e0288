"""The documentation site: it builds without a warning and without a network, and asks no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .__main__ import source_tree
from .conftest import ROOT


def test_the_site_builds_and_stands_alone(tmp_path: Path) -> None:
    source_tree()
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    written = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert written <= {path.parent.name for path in pages}
    for page in pages:
        html = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)|<link[^>]+href="(https?:[^"]+)', html
        )
        assert loaded == [], page
    api = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    assert "open_bundle" in api
    assert "BGR uint8" in api
    bundle = (tmp_path / "site" / "bundle" / "index.html").read_text(encoding="utf-8")
    assert "doppelgan-bundle" in bundle


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]
    assert [path.name for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in nav] == []


def linked(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Every link of a page that leads to no other host: as written, the file, the heading."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", link):
            path, _, heading = link.partition("#")
            yield link, page.parent / path if path else page, heading


def headings(page: Path) -> set[str]:
    """As links name them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


PAGES = sorted(
    page
    for folder in ("", "docs", "engines/demo", "training", "training/render", "benchmarks/results")
    for page in (ROOT / folder).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    dead = [link for link, target, _ in linked(page) if not target.exists()]
    lost = [
        link
        for link, target, heading in linked(page)
        if heading and target.suffix == ".md" and target.exists() and heading not in headings(target)
    ]
    assert (dead, lost) == ([], [])
