"""For the site: ``{{ docstring of PATH }}`` on a page becomes the docstring at the top of that file."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    return re.sub(r"\{\{ docstring of (\S+) \}\}", lambda match: _docstring(match[1]), markdown)


def _docstring(path: str) -> str:
    text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    if text is None:
        raise ValueError(f"{path}: expected a docstring at the top, got none")
    return f"```text\n{text}\n```"
