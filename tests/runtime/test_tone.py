"""Black-and-white and toned material stays so; material in color is left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from doppelgan.runtime import open_bundle
from doppelgan.runtime.pictures.tone import Tone
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.types import Floats, Image

from ..conftest import ROOT

SEPIA = np.array([[0.131, 0.534, 0.272], [0.168, 0.686, 0.349], [0.189, 0.769, 0.393]])


@pytest.fixture(scope="module")
def person() -> Image:
    """A portrait in color, 256x256, painted by the embedded generator."""
    with open_bundle(ROOT / "engines" / "demo") as bundle:
        picture = bundle.synthesize(bundle.latent_avg[None])[0]
    pixels = np.clip(picture[::-1].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.resize(pixels, (256, 256)))


def crop(image: Image) -> Floats:
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1), np.float32) / 127.5 - 1


def gray(image: Image) -> Image:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]


def sepia(image: Image) -> Image:
    return np.clip(image @ SEPIA.T * 0.7, 0, 255).astype(np.uint8)


def coded(image: Image) -> Image:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)  # type: ignore[return-value]


def drawn_on(frame: Image, color: tuple[int, int, int] = (200, 40, 60)) -> Image:
    drawn = frame.copy()
    drawn[100:140, 80:160] = color
    return drawn


def test_nothing_colored_is_drawn_into_gray(person: Image) -> None:
    frame = coded(gray(person))
    drawn = drawn_on(frame)
    Tone().keep(frame, drawn, [crop(frame)])
    assert (drawn == drawn[..., :1]).all()
    assert drawn[120, 120, 0] == round(0.0722 * 200 + 0.7152 * 40 + 0.2126 * 60)
    np.testing.assert_array_equal(drawn[:100], frame[:100])


@pytest.mark.parametrize("code", [lambda image: image, coded], ids=["exact", "jpeg"])
def test_sepia_stays_sepia(person: Image, code) -> None:  # type: ignore[no-untyped-def]
    frame = code(sepia(person))
    drawn = drawn_on(frame)
    Tone().keep(frame, drawn, [crop(frame)])
    level = 0.0722 * 200 + 0.7152 * 40 + 0.2126 * 60
    luma = frame @ np.array([0.0722, 0.7152, 0.2126])
    there = frame[np.abs(luma - level) < 2].mean(axis=0)  # what the frame has at that brightness
    np.testing.assert_allclose(drawn[120, 120], there, atol=5)


@pytest.mark.parametrize("saturation", [1.0, 0.5])
def test_color_is_left_alone(person: Image, saturation: float) -> None:
    frame = (gray(person) * (1 - saturation) + person * saturation).astype(np.uint8)
    drawn = drawn_on(frame)
    want = drawn.copy()
    Tone().keep(frame, drawn, [crop(frame)])
    np.testing.assert_array_equal(drawn, want)


def test_one_flat_color_is_no_tone() -> None:
    frame = np.full((256, 256, 3), (60, 90, 150), np.uint8)
    drawn = drawn_on(frame)
    want = drawn.copy()
    Tone().keep(frame, drawn, [crop(frame)])
    np.testing.assert_array_equal(drawn, want)


def test_one_person_in_color_keeps_the_frame_in_color(person: Image) -> None:
    drawn = drawn_on(person)
    want = drawn.copy()
    Tone().keep(person, drawn, [crop(gray(person)), crop(person)])
    np.testing.assert_array_equal(drawn, want)


def test_a_stream_at_the_border_does_not_flicker_and_reset_forgets(person: Image) -> None:
    tone = Tone()
    frames = [(gray(person) * (1 - s) + person * s).astype(np.uint8) for s in np.linspace(0, 0.4, 60)]

    def kept(frame: Image) -> bool:
        drawn = drawn_on(frame)
        want = drawn.copy()
        tone.keep(frame, drawn, [crop(frame)])
        return not np.array_equal(drawn, want)

    growing = [kept(frame) for frame in frames]
    shrinking = [kept(frame) for frame in reversed(frames)]
    assert growing == sorted(growing, reverse=True)
    assert shrinking == sorted(shrinking)
    between = sum(growing) - 1  # the last frame that was still taken for toned
    assert not shrinking[len(frames) - 1 - between], "on the way back it takes more to be toned"
    tone.reset()
    assert not kept(frames[between])
    assert kept(frames[0])


def test_a_cut_from_color_to_gray_is_seen_at_once_and_in_a_scene_color_is_not_checked_in_every_frame(
    person: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone, checks, curve = Tone(), [], Tone._curve
    monkeypatch.setattr(Tone, "_curve", lambda self, faces: checks.append(len(checks)) or curve(self, faces))
    for _ in range(12):
        tone.keep(person, drawn_on(person), [crop(person)])
    assert len(checks) == 2
    drawn = drawn_on(gray(person))
    tone.keep(gray(person), drawn, [crop(gray(person))])
    assert (drawn == drawn[..., :1]).all()
    tone.keep(person, drawn_on(person), [crop(person)])
    tone.keep(person, drawn_on(person), [crop(person), crop(person)])  # another face comes
    assert len(checks) == 5


@pytest.mark.parametrize("smoothing", [True, False], ids=["stream", "picture"])
def test_the_pipeline_keeps_gray_frames_gray(person: Image, tmp_path: Path, smoothing: bool) -> None:
    canvas = np.full((360, 480, 3), 120, np.uint8)
    canvas[50:306, 110:366] = gray(person)
    with open_bundle(ROOT / "engines" / "demo") as bundle:
        pipeline = Pipeline(bundle, {"grey": 0.5}, smoothing=smoothing)
        for index in range(2):
            edited = pipeline.process(canvas, index / 30)
            assert len(pipeline.people) == 1
            assert (edited != canvas).any()
            assert (edited == edited[..., :1]).all()
