"""Enrollment from the page: the command as a process beside the server, here a stand-in for it."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from doppelgan.runtime.serve import enrollment as module
from doppelgan.runtime.serve.frames import encode_jpeg
from doppelgan.runtime.types import Image

from ..conftest import ROOT
from .conftest import Served

# What `doppelgan enroll PICTURE -o TARGET -b BASE --consent WHO` does, without tuning anything.
STAND_IN = """
import shutil, signal, sys, time
from pathlib import Path

arguments = sys.argv[1:]
picture, target, base = Path(arguments[1]), Path(arguments[3]), arguments[5]
assert arguments[0] == "enroll" and arguments[6] == "--consent" and picture.stat().st_size > 1000
aside = target.with_name(target.name + ".enrolling")
aside.mkdir(parents=True)
shutil.copy(picture, aside / "progress.png")
print("\\x1b[1mstep 1\\x1b[0m", flush=True)
if "{mode}" == "fails":
    sys.exit("doppelgan: error: the face is too small")
try:
    time.sleep({seconds})
except KeyboardInterrupt:
    print("stopped", flush=True)
shutil.copytree(base, target)
shutil.rmtree(aside)
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, float], None]:
    def use(mode: str, seconds: float) -> None:
        script = tmp_path / "enroll.py"
        script.write_text(
            textwrap.dedent(STAND_IN.replace("{mode}", mode).replace("{seconds}", str(seconds)))
        )
        monkeypatch.setattr(module, "COMMAND", (sys.executable, str(script)))
        monkeypatch.setattr(module, "NEEDS", ("msgspec",))

    return use


def uploaded(served: Served, face: Image) -> str:
    key: str = served.api.post("/api/pictures", content=encode_jpeg(face[:240], 95)).json()["id"]
    return key


def until(served: Served, condition: Callable[[dict[str, object]], object]) -> dict[str, object]:
    end_s = time.monotonic() + 15
    while time.monotonic() < end_s:
        status: dict[str, object] = served.api.get("/api/enrollment").json()
        if condition(status):
            return status
        time.sleep(0.05)
    raise AssertionError(status)


@pytest.mark.parametrize("ends", ["by itself", "when it is stopped"])
def test_a_picture_becomes_the_chosen_avatar(
    plain: Served, face: Image, command: Callable[[str, float], None], data: Path, ends: str
) -> None:
    command("works", 0.5 if ends == "by itself" else 60)
    key = uploaded(plain, face)
    asked = {"picture": key, "name": "me", "consent": True}
    assert plain.api.post("/api/enrollment", json=asked).status_code == 201
    assert plain.api.post("/api/enrollment", json=asked | {"name": "other"}).status_code == 422, (
        "one at a time"
    )
    status = until(plain, lambda status: status["picture"] and status["line"])
    assert (status["running"], status["line"]) == (True, "step 1")
    assert plain.api.get("/api/enrollment/picture").content.startswith(b"\x89PNG")
    if ends != "by itself":
        assert plain.api.delete("/api/enrollment").status_code == 204
    status = until(plain, lambda status: not status["running"])
    try:
        assert (status["done"], status["failure"]) == (True, None)
        end_s = time.monotonic() + 10
        while plain.desk.controls.bundle != "me" and time.monotonic() < end_s:
            time.sleep(0.05)
        state = plain.api.get("/api/state").json()
        assert (state["controls"]["bundle"], "me" in state["bundles"]) == ("me", True)
        assert plain.api.post("/api/enrollment", json=asked).status_code == 422, "the name is taken"
    finally:
        plain.api.patch("/api/state", json={"bundle": "demo"}).raise_for_status()
        shutil.rmtree(data / "engines")
        plain.desk.refresh_bundles()
        plain.api.delete(f"/api/pictures/{key}")


def test_what_went_wrong_is_told_and_nothing_stays(
    plain: Served, face: Image, command: Callable[[str, float], None], data: Path
) -> None:
    command("fails", 0)
    key = uploaded(plain, face)
    plain.api.post("/api/enrollment", json={"picture": key, "name": "me", "consent": True}).raise_for_status()
    status = until(plain, lambda status: not status["running"])
    assert (status["done"], status["failure"]) == (False, "the face is too small")
    assert plain.desk.controls.bundle == "demo"
    plain.api.delete(f"/api/pictures/{key}")
    shutil.rmtree(data / "engines")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"consent": False}, "consent"),
        ({"name": "../me"}, "rename it"),
        ({"name": "a b"}, "rename it"),
        ({"picture": "0" * 16}, "unknown id"),
    ],
)
def test_what_cannot_be_enrolled_is_refused_before_the_work(
    plain: Served,
    face: Image,
    command: Callable[[str, float], None],
    data: Path,
    asked: dict[str, object],
    why: str,
) -> None:
    command("works", 0)
    key = uploaded(plain, face)
    answer = plain.api.post("/api/enrollment", json={"picture": key, "name": "me", "consent": True} | asked)
    assert why in answer.json()["error"]
    assert not (data / "engines").exists()
    plain.api.delete(f"/api/pictures/{key}")


def test_without_the_extra_it_says_what_to_install(
    plain: Served, face: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEEDS", ("no_such_package",))
    assert plain.api.get("/api/enrollment").json()["available"] is False
    key = uploaded(plain, face)
    answer = plain.api.post("/api/enrollment", json={"picture": key, "name": "me", "consent": True})
    assert "doppelgan[enroll]" in answer.json()["error"]
    plain.api.delete(f"/api/pictures/{key}")


def test_the_real_command_takes_what_it_is_given() -> None:
    from doppelgan.runtime.cli.enroll import command

    options = {name for parameter in command.params for name in parameter.opts}
    assert {"-o", "-b", "--consent", "sources"} <= options
    assert (ROOT / "runtime" / "cli" / "enroll.py").is_file()
