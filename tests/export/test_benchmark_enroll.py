"""The benchmark of enrollment: it goes on where it was cut short, and its page says what was measured."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.edit.editor import Editor
from doppelgan.runtime.types import Floats, Image

import benchmarks.enroll.__main__ as program
from benchmarks.enroll import people
from benchmarks.enroll.meaning import effect, moved
from benchmarks.enroll.measures import Driven, edits, ms_ssim, psnr
from benchmarks.enroll.page import page
from benchmarks.enroll.people import Part, Settings, parts
from benchmarks.enroll.results import CLIP, ONE, PLAIN, Result, Results
from benchmarks.judge.recognizer import Recognizer

from .. import tiny

# Answers with the mean color of each picture, and with null for a black one.
PROGRAM = """
import json, sys
import numpy as np
for line in sys.stdin:
    request = json.loads(line)
    pixels = np.fromfile(request["file"], np.uint8).reshape(request["height"], request["width"], 3)
    mean = pixels.mean((0, 1)) / 255
    print(json.dumps({"descriptor": mean.tolist() if mean.any() else None}), flush=True)
"""


@pytest.fixture
def recognizer(tmp_path: Path) -> Iterator[Recognizer]:
    (tmp_path / "faces.py").write_text(PROGRAM)
    with Recognizer(shlex.join([sys.executable, str(tmp_path / "faces.py")])) as recognizer:
        yield recognizer


def flat_image(red: int, green: int, blue: int) -> Image:
    return np.full((8, 8, 3), (blue, green, red), np.uint8)


def test_a_recognizer_is_any_program(recognizer: Recognizer) -> None:
    white, yellow, black = flat_image(255, 255, 255), flat_image(255, 255, 0), flat_image(0, 0, 0)
    person = recognizer.person([white, black])
    assert person is not None
    np.testing.assert_allclose(person, [1, 1, 1])
    np.testing.assert_allclose(recognizer.describe(yellow), [1, 1, 0])
    np.testing.assert_allclose(recognizer.distances([white, yellow, black], person), [0, 1, 1])
    assert recognizer.distance([yellow] * 3, person) == 1
    silent = Recognizer(None)
    assert silent.distance([white], silent.person([white])) is None


def test_a_recognizer_sees_a_picture_in_a_gray_frame(tmp_path: Path, recognizer: Recognizer) -> None:
    with Recognizer(shlex.join([sys.executable, str(tmp_path / "faces.py")]), border=0.5) as framed:
        seen = framed.describe(flat_image(255, 0, 128))
    np.testing.assert_allclose(seen, (np.array([255, 0, 128]) + 3 * 128) / 4 / 255)
    np.testing.assert_allclose(recognizer.describe(flat_image(255, 0, 128)), np.array([255, 0, 128]) / 255)


def test_likeness_looks_at_the_face_alone() -> None:
    random = np.random.default_rng(0)
    real = random.uniform(-1, 1, (3, 64, 64)).astype(np.float32)
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1
    elsewhere = np.where(mask > 0, real, -real)
    assert psnr(elsewhere, real, mask) > 90
    assert psnr(real + 0.2, real, mask) == pytest.approx(20, abs=0.01)
    assert ms_ssim(real, real, mask) == pytest.approx(1)
    assert ms_ssim(elsewhere, real, mask) > ms_ssim(-elsewhere, real, mask) + 0.5
    assert Driven([real, real], [real + 0.2, real + 0.2], [mask, mask]).likeness()[0] == pytest.approx(
        20, abs=0.01
    )


def test_an_edit_is_judged_by_what_it_means_not_where(tmp_path: Path, recognizer: Recognizer) -> None:
    tiny.write_bundle(tmp_path / "base")

    def read(picture: Floats) -> dict[str, float]:
        """Knows red alone, wherever it is."""
        return {"red": float(picture[0].mean())}

    class Me:
        """As red as the base in one half of the picture, which makes half of it; not green at all."""

        def __init__(self) -> None:
            self.latent = {"pivot": np.zeros((tiny.STYLES, tiny.W_DIM), np.float32)}

        def synthesize(self, codes: Floats) -> Floats:
            pictures = base.synthesize(codes).copy()
            pictures[..., : tiny.SIZE // 2] = 0
            pictures[:, 1:] = 0
            return pictures

    with open_bundle(tmp_path / "base") as base:
        found = edits(base, Me(), recognizer, read)  # type: ignore[arg-type]
    assert set(found) == {"red", "green"}
    assert found["red"][0] == pytest.approx(0.5)
    assert found["green"][0] is None  # nobody reads it
    # Half of -1..1 is a quarter of the colors: the base changes by all of it, this person by half.
    assert found["red"][1] == pytest.approx(-0.125, abs=0.01)


def test_an_edit_that_the_base_hardly_makes_has_no_effect_to_compare() -> None:
    assert effect("hair_length", 0.05, 0.5) is None
    assert effect("hair_length", 0.5, 0.1) == pytest.approx(0.2)
    assert effect("hair_length", 0.5, -0.1) == pytest.approx(-0.2)
    assert effect("yaw", 0.05, 0.5) is None
    assert effect("eye_open", 0.05, 0.04) == pytest.approx(0.8)
    assert effect("eye_contact_x", None, None) is None


def test_motions_are_seen_by_the_tracker() -> None:
    def refuse(_: Floats) -> dict[str, float]:
        raise AssertionError("a reader of looks was asked")

    with open_bundle("demo") as demo:
        editor, code = Editor(demo.directions, demo.latent_avg), demo.latent_avg[None]
        plain = np.clip(demo.synthesize(code)[0], -1, 1)
        turned = np.clip(demo.synthesize(editor.apply(code, {"yaw": 1.0}))[0], -1, 1)
        there, back = moved("yaw", plain, turned, demo, refuse), moved("yaw", turned, plain, demo, refuse)
        still = moved("yaw", plain, plain, demo, refuse)
    assert there is not None
    assert back is not None
    assert abs(there) > 0.2
    assert back == pytest.approx(-there)
    assert still == 0


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo = parts([tmp_path / "a.mp4"], [tmp_path / "b.jpg"], [tmp_path / "c"], (ONE, CLIP))
    assert [(part.name, part.how) for part in todo] == [
        *(("a", how) for how in (PLAIN, ONE, CLIP)),
        *(("c", how) for how in (PLAIN, ONE)),
        ("b", ONE),
    ]
    results = Results(tmp_path / "work")
    settings = Settings("demo", None, Recognizer(None), results, None, ())
    judged: list[tuple[str, str]] = []

    def measure(part: Part, _base: object, _me: object, _settings: Settings, result: Result) -> None:
        if len(judged) == 2:
            raise KeyboardInterrupt
        judged.append((part.name, part.how))
        result.psnr_db = 20.0

    enrolled: list[tuple[str, str]] = []

    def enroll(part: Part, _base: object, _settings: Settings, result: Result) -> None:
        if result.wall_s is None:
            enrolled.append((part.name, part.how))
            result.wall_s = 30.0

    monkeypatch.setattr(people, "_measure", measure)
    monkeypatch.setattr(people, "_enroll", enroll)
    monkeypatch.setattr(people, "open_bundle", lambda path: open_bundle("demo"))
    with open_bundle("demo") as base:
        with pytest.raises(KeyboardInterrupt):
            program.work(todo, base, settings, 10)
        assert enrolled == [("a", ONE), ("a", CLIP)]
        judged.clear()
        judged.append(("nobody", ""))
        assert not program.work(todo, base, settings, -1)  # no time: nothing is begun
        assert judged == [("nobody", "")]
        with pytest.raises(KeyboardInterrupt):
            program.work(todo, base, settings, 10)
        assert judged[1:] == [("a", CLIP)]
        assert enrolled == [("a", ONE), ("a", CLIP)]  # not again
    assert results.get("a", ONE, "clip") == Result("a", ONE, "clip", psnr_db=20.0, wall_s=30.0, done=True)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_process_peak_is_its_own() -> None:
    """Not that of the large process which started it."""
    ballast = np.ones(40_000_000)  # 320 MB
    small = [sys.executable, "-c", "import sys; print(1, file=sys.stderr, flush=True); sys.stdin.read()"]
    with subprocess.Popen(small, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stderr.readline()
        peak = people._peak_bytes(process.pid)
        process.stdin.close()
    assert 1e6 < peak < 150e6 < ballast.nbytes
    assert people._peak_bytes(process.pid) == 0  # gone


def test_the_page_has_people_motions_edits_and_refusals() -> None:
    def result(name: str, how: str, distance: float, **more: object) -> Result:
        return Result(name, how, "clip", psnr_db=20.0, distance=distance, done=True, **more)  # type: ignore[arg-type]

    text = page(
        [
            result("a", PLAIN, 0.7),
            result(
                "a", ONE, 0.4, following={"a": {"yaw": 0.9}, "b": {"smile": 0.8}}, edits={"age": (0.9, 0.1)}
            ),
            result("b", ONE, 0.5, edits={"age": (0.7, None), "grey": (None, None)}),
            Result("c", ONE, "still", refused="c.jpg: two faces", done=True),
            Result("d", ONE, "still"),  # not yet
        ],
        "# title",
    )
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")
    ]
    assert ["**median of all media**", ONE, "", "", "", "0.45", "", "", "", ""] in rows
    assert ["**median of 2 clips**", ONE, "20.0", "-", "-", "0.45", "-", "-", "-", "-"] in rows
    assert ["a", ONE, "self", "0.90", "-"] in rows
    assert ["a", ONE, "b", "-", "0.80"] in rows
    assert ["age", "0.80", "0.70", "+0.10", "+0.10"] in rows
    assert ["grey", "-", "-", "-", "-"] in rows
    assert "- c: c.jpg: two faces" in text
    assert not [row for row in rows if row[0] == "d"]
