"""Keys in the window, on bundles of every kind; odd values of ``live``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doppelgan.runtime.cli.live import Keys

from .test_options_live import Desk, desk, no_trackers

__all__ = ["desk", "no_trackers"]  # fixtures of the tests here


def pressed(keys: str, ranges: dict[str, tuple[float, float]], styles: str = "photo") -> Any:
    """The pipeline after these keys, with directions of these ranges and styles of these names."""
    directions = {name: SimpleNamespace(range=ends) for name, ends in ranges.items()}
    bundle = SimpleNamespace(directions=directions, styles=tuple(styles.split()))
    pipeline = SimpleNamespace(bundle=bundle, edits={}, style=styles.split()[0])
    on_key = Keys(pipeline)  # type: ignore[arg-type]
    for key in keys:
        on_key(key)
    return pipeline


NINE = {f"d{n}": (-1.0, 1.0) for n in range(1, 11)}


@pytest.mark.parametrize("number", range(1, 10))
def test_a_number_chooses_the_direction_of_that_number(number: int) -> None:
    assert pressed(f"{number}+", NINE).edits == {f"d{number}": 0.25}
    assert pressed(f"9{number}-", NINE).edits == {f"d{number}": -0.25}


@pytest.mark.parametrize(
    ("keys", "ends", "strength"),
    [
        ("+", (0.0, 4.0), 0.5),  # an eighth of the whole range
        ("-", (0.0, 4.0), 0.0),
        ("+-", (0.0, 4.0), 0.0),
        ("-----", (-1.0, 3.0), -1.0),
        ("+" * 20, (-1.0, 3.0), 3.0),
    ],
)
def test_a_direction_is_moved_within_its_own_range(
    keys: str, ends: tuple[float, float], strength: float
) -> None:
    assert pressed(keys, {"a": ends}).edits == {"a": strength}


def test_the_styles_come_in_their_order_and_begin_again() -> None:
    seen = [pressed("s" * presses, {}, "photo toon sketch").style for presses in range(5)]
    assert seen == ["photo", "toon", "sketch", "photo", "toon"]


def test_a_key_makes_new_edits_and_leaves_the_others() -> None:
    pipeline = pressed("+", NINE)
    before = pipeline.edits
    Keys(pipeline)("0")
    assert before == {"d1": 0.25}, "another thread may be reading it"
    assert pressed("+2+3+20", NINE).edits == {"d1": 0.25, "d3": 0.25}


@pytest.mark.parametrize("key", [*"0x?s.", "\x00", "\n", *"²³¹", "\xff"])  # also the keypad's
def test_other_keys_move_nothing(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pressed(key, NINE).edits == {}
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "d1 = +0.00\n" if key == "0" else "")


@pytest.mark.parametrize("key", "1+-=0x")
def test_without_directions_there_is_nothing_to_move(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pressed(key, {}).edits == {}
    assert capsys.readouterr() == ("", "")


def test_rates_are_above_none_and_up_to_a_thousand(desk: Desk) -> None:
    for rate in ("0.5", "1000"):
        assert desk("--rate", rate).exit_code == 0
        assert desk.opened.pop() == ("0", {"rate": float(rate)})
    for rate in ("0", "1000.5", "fast"):
        result = desk("--rate", rate)
        assert (result.exit_code, desk.opened) == (2, [])
        assert "--rate" in result.stderr


def test_what_to_show_when_frames_are_lost_is_chosen_by_name(desk: Desk) -> None:
    assert desk("--on-lost", "hold").exit_code == 0
    desk.opened.clear()
    result = desk("--on-lost", "nothing")
    assert (result.exit_code, desk.opened) == (2, [])
    assert all(name in result.stderr for name in ("no-signal", "hold", "passthrough"))


def test_what_is_told_goes_beside_the_frames(desk: Desk, tmp_path: Path) -> None:
    desk.states = [("lost", "unplugged")]
    result = desk("--latency", "--to", "-")
    assert result.exit_code == 0
    assert result.stdout == ""  # it is the frames'
    assert "lost: unplugged" in result.stderr
