"""Every option of a command with values that nobody should give: refused in one line, nothing left behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
from doppelgan.runtime import cli

NUMBERS = ("", "x", "nan", "inf", "-1", "0", "1e9", "1" + 30 * "0", "²")
WORDS = ("", "x", "é中", "a\nb", "[/x]", "%d", "=", "x=nan", "\udcff", "x" * 5000, "100000x100000")
PATHS = ("", "folder", "missing", "missing/x", "text.txt", "text.txt/x", "/dev/null", "\udcff", "x" * 300)
LONGEST = 1100  # letters of a message
EXPECTED_CODES = (0, 2)
TOLD = ("doppelgan: error: ", "  cannot be read: ")  # the second of `check`, which goes on


def values(parameter: click.Parameter) -> Sequence[str]:
    """What to try for it; of choices also the right ones."""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return ("", "x", *kind.choices)
    if isinstance(kind, click.types._NumberRangeBase) or kind in (click.INT, click.FLOAT):
        return NUMBERS
    return PATHS if isinstance(kind, click.Path) else WORDS


def lines(name: str, base: Sequence[str], skip: Sequence[str] = ()) -> Iterator[list[str]]:
    """Command lines: ``base``, whose first words may be arguments, with one thing changed in each."""
    command = cli.group.get_command(click.Context(cli.group), name)
    assert command is not None
    for parameter in command.params:
        if parameter.name in skip:
            continue
        if isinstance(parameter, click.Option) and parameter.is_flag:
            yield from ([name, *base, option] for option in (*parameter.opts, *parameter.secondary_opts))
            continue
        for value in values(parameter):
            if isinstance(parameter, click.Option):
                yield [name, *_without(base, parameter), parameter.opts[0], value]
            elif base and not base[0].startswith("-"):
                yield [name, value, *base[1:]]


def _without(base: Sequence[str], option: click.Option) -> list[str]:
    """A value that is given twice would be the later one, so that only those of repeated options stay."""
    kept = list(base)
    for word in () if option.multiple else option.opts:
        if word in kept:
            place = kept.index(word)
            del kept[place : place + 2]
    return kept


def faults(
    many: Iterator[list[str]], folder: Path, capfd: pytest.CaptureFixture[str], clean: Callable[[], None]
) -> list[str]:
    """What is wrong with each of ``many``, run in ``folder``, which ``clean`` puts right again."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        before = _content(folder)
        for line in many:
            patch.setattr(sys, "argv", ["doppelgan", *line])
            try:
                cli.main()
                code: object = "no exit"
            except SystemExit as ended:
                code = ended.code or 0
            except Exception as error:
                code = f"{type(error).__name__}: {error}"
            said = "".join(capfd.readouterr())
            told = [text for text in said.splitlines() if text.startswith(TOLD)]
            wrong = []
            if code not in EXPECTED_CODES:
                wrong.append(f"ended with {code}")
            if code == 2 and (len(told) != 1 or len(told[0]) > LONGEST):
                wrong.append(f"said {said[:300]!r}")
            left = _content(folder)
            if code == 2 and left != before:
                wrong.append(f"left {sorted(left.items() ^ before.items())[:3]}")
            if wrong:
                found.append(f"{[word[:40] for word in line]}: {'; '.join(wrong)}")
            if left != before:
                clean()
                assert _content(folder) == before
    return found


def _content(folder: Path) -> dict[str, int]:
    """Names and sizes of all that lies there."""
    return {str(path): path.stat().st_size if path.is_file() else -1 for path in folder.rglob("*")}


def desk(folder: Path, sources: Sequence[Path] = ()) -> Callable[[], None]:
    """Fill ``folder`` with what command lines name; the function that puts it right again."""

    def lay_out() -> None:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (folder / "folder").mkdir()
        (folder / "text.txt").write_text("some words\n")
        for source in sources:
            shutil.copy(source, folder)

    lay_out()
    return lay_out
