"""For the site, what a page in the repository says otherwise.

``{{ docstring of PATH }}`` becomes the docstring at the top of that file. A link out of ``docs/`` leads to a
file of the repository, which the site does not hold: its text stays, and a link to nothing stops the build.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    markdown = re.sub(r"\{\{ docstring of (\S+) \}\}", lambda match: _docstring(match[1]), markdown)
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#\s]+)[^)]*\)", lambda match: _text(match[1], match[2]), markdown)


def _docstring(path: str) -> str:
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    if text is None:
        raise ValueError(f"{path}: expected a docstring at the top, got none")
    return f"```text\n{text}\n```"


def _text(text: str, path: str) -> str:
    if not (ROOT / path).exists():
        raise ValueError(f"{path}: expected a file of the repository, got a link to none")
    return text
