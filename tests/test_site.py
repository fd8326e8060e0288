"""The documentation site: it builds without a warning and without a network, and asks no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
