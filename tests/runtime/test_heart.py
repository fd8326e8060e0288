"""The pipeline over time: the second frame, the second person, who leaves and comes back, order, limits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.composite import Compositor
from doppelgan.runtime.errors import EditError
from doppelgan.runtime.manifest import Enrollment
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.types import Face, Frame, Image

from .. import tiny
from .test_pipeline import frame, landmarks_at, middle

LEFT, RIGHT = np.array([40.0, 60.0]), np.array([120.0, 60.0])
FACE_WIDTH = 30.0
BLACK = (0, 0, 0)


class TwoPeople:
    """Sees who stands left (id 3) or right (id 5) of the middle, where that half is not black."""

    def __init__(self, *_: object, max_faces: int = 1, smoothing: object = None, **__: object) -> None:
        self.max_faces, self.smoothing = max_faces, smoothing
        self.times_s: list[float] = []
        self.resets = 0

    def update(self, image: Image, time_s: float) -> list[Face]:
        self.times_s.append(time_s)
        half = image.shape[1] // 2
        faces = [(3, LEFT, image[:, :half]), (5, RIGHT, image[:, half:])]
        return [Face(i, landmarks_at(at, FACE_WIDTH), 1.0) for i, at, part in faces if part.any()][
            : self.max_faces
        ]

    def reset(self) -> None:
        self.resets += 1


def seeing(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(pipeline_module, "Tracker", TwoPeople)
    # Flat pictures on flat frames: matching colors would take back any edit of them.
    monkeypatch.setattr(pipeline_module, "Compositor", partial(Compositor, color_match=False))
    real = opened.session
    trackers = {"detector", "landmarks"}
    monkeypatch.setattr(opened, "session", lambda name: SimpleNamespace() if name in trackers else real(name))
    return opened


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return seeing(open_bundle(tiny_bundle), monkeypatch)


@pytest.fixture
def remembering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return seeing(open_bundle(tiny.write_bundle(tmp_path / "remembering", remembers=True)), monkeypatch)


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image:
    image = frame(left)
    image[:, image.shape[1] // 2 :] = right
    return image


def at(image: Image, where: np.ndarray) -> list[int]:
    return image[int(where[1]), int(where[0])].tolist()


def pipe(bundle: Bundle, **settings: Any) -> Pipeline:
    return Pipeline(bundle, composite=settings.pop("composite", "head"), **settings)


def test_who_comes_back_soon_is_known_and_who_stays_away_is_forgotten(bundle: Bundle) -> None:
    pipeline = pipe(bundle)
    pipeline.process(frame(), 0.0)
    person = pipeline.people[3]
    pipeline.process(frame(BLACK), 1.0)
    assert pipeline.people == {}
    pipeline.process(frame(), 4.5)
    assert pipeline.people[3] is person
    pipeline.process(frame(BLACK), 5.0)
    pipeline.process(frame(), 10.0)
    assert pipeline.people[3] is not person


def test_frames_without_a_time_are_a_thirtieth_of_a_second_apart(bundle: Bundle) -> None:
    pipeline = pipe(bundle)
    for _ in range(3):
        pipeline.process(frame())
    pipeline.process(frame(), 9.0)
    pipeline.process(frame())
    np.testing.assert_allclose(pipeline._tracker.times_s, [1 / 30, 2 / 30, 3 / 30, 9, 9 + 1 / 30])


def test_truncation_moves_the_person_and_not_the_edit(bundle: Bundle) -> None:
    pipeline = pipe(bundle, edits={"red": 2.0}, truncation=0.0)
    pipeline.process(frame())
    expected = bundle.latent_avg + 2 * bundle.directions["red"].offset
    np.testing.assert_allclose(pipeline.people[3].codes[0], expected, atol=1e-6)


def test_the_latest_result_is_held_not_the_first(bundle: Bundle) -> None:
    pipeline = pipe(bundle, when_lost="hold")
    pipeline.process(frame((60, 90, 150)))
    shown = pipeline.process(frame((150, 60, 90)))
    np.testing.assert_array_equal(pipeline.process(frame(BLACK)), shown)


def test_what_is_held_has_the_size_of_the_frame(bundle: Bundle) -> None:
    pipeline = pipe(bundle, when_lost="hold")
    pipeline.process(frame())
    small = np.zeros((60, 80, 3), np.uint8)
    lost = pipeline.process(small)
    assert lost.shape == small.shape
    assert middle(pipeline.process(frame(BLACK))) != [24, 24, 24]  # the held one is still there
    assert (lost == 24).all()


def test_after_a_reset_nobody_is_known_and_nothing_is_held(bundle: Bundle) -> None:
    pipeline = pipe(bundle, when_lost="hold")
    pipeline.process(frame())
    person = pipeline.people[3]
    pipeline.reset()
    assert pipeline.people == {}
    assert pipeline._tracker.resets == 1
    assert middle(pipeline.process(frame(BLACK))) == [24, 24, 24]
    pipeline.process(frame())
    assert pipeline.people[3] is not person


def test_without_smoothing_every_picture_is_a_new_one(bundle: Bundle) -> None:
    pipeline = pipe(bundle, smoothing=False)
    for color in ((60, 90, 150), (150, 90, 60)):
        pipeline.process(frame(color))
        expected = np.array(color[::-1]) / 127.5 - 1
        np.testing.assert_allclose(pipeline.people[3].own_codes[0, 0, :3], expected, atol=0.02)
    assert pipeline._tracker.resets == 2
    assert pipeline._tracker.smoothing is None


def test_with_smoothing_a_jump_is_followed_with_a_lag(bundle: Bundle) -> None:
    pipeline = pipe(bundle)
    pipeline.process(frame((0, 0, 100)))
    first = pipeline.people[3].own_codes[0, 0, 0]
    pipeline.process(frame((0, 0, 200)))
    second = pipeline.people[3].own_codes[0, 0, 0]
    assert pytest.approx(first, abs=0.02) == 100 / 127.5 - 1
    assert first + 0.02 < second < 200 / 127.5 - 1 - 0.02
    assert pipeline._tracker.smoothing is not None


def test_two_people_are_drawn_each_in_their_place_from_their_own_code(bundle: Bundle) -> None:
    pipeline = pipe(bundle, edits={"red": 1.0}, max_faces=2, smoothing=False)
    given = halves((60, 90, 120), (120, 60, 30))
    out = pipeline.process(given)
    assert list(pipeline.people) == [3, 5]
    for where, id_ in ((LEFT, 3), (RIGHT, 5)):
        blue, green, red = at(given, where)
        np.testing.assert_allclose(at(out, where), [blue, green, red + 0.25 * 127.5], atol=3)
        expected = np.array([red, green, blue]) / 127.5 - 1
        np.testing.assert_allclose(pipeline.people[id_].own_codes[0, 0, :3], expected, atol=0.03)
    assert pipeline.people[3].face.id == 3
    assert pipeline.people[5].crop.landmarks.shape == (468, 3)


def test_only_as_many_people_are_edited_as_are_asked_for(bundle: Bundle) -> None:
    given = halves((60, 90, 120), (120, 60, 30))
    out = pipe(bundle, edits={"red": 1.0}, max_faces=1).process(given)
    assert at(out, LEFT) != at(given, LEFT)
    assert at(out, RIGHT) == at(given, RIGHT)


def test_one_may_leave_while_the_other_stays(bundle: Bundle) -> None:
    pipeline = pipe(bundle, edits={"red": 1.0}, max_faces=2)
    pipeline.process(halves((60, 90, 120), (120, 60, 30)))
    right = pipeline.people[5]
    out = pipeline.process(halves(BLACK, (120, 60, 30)))
    assert list(pipeline.people) == [5]
    assert pipeline.people[5] is right
    assert at(out, LEFT) == [0, 0, 0]


def test_the_lock_keeps_looks_and_lets_motion_through(remembering: Bundle) -> None:
    """The stand-in encoder reads looks from red and motion from green."""

    def after_a_change(identity_lock: bool) -> tuple[float, float]:
        pipeline = pipe(remembering, identity_lock=identity_lock)
        for k in range(60):
            pipeline.process(frame((0, 100, 100)), k / 30)
        for k in range(60, 75):
            pipeline.process(frame((0, 200, 200)), k / 30)
        red, green = pipeline.people[3].own_codes[0, 0, :2]
        return float(red), float(green)

    locked, free = after_a_change(True), after_a_change(False)
    before, after = 100 / 127.5 - 1, 200 / 127.5 - 1
    assert locked[0] < before + 0.35 * (after - before)
    assert free[0] > before + 0.8 * (after - before)
    assert locked[1] > before + 0.8 * (after - before)


def test_the_lock_grows_surer_with_time(remembering: Bundle) -> None:
    pipeline = pipe(remembering)
    trust = []
    for k in range(40):
        pipeline.process(frame((0, 100, 100)), k / 30)
        trust.append(pipeline.people[3].lock.trust)
    assert trust[0] == 0
    assert trust[5] < trust[20] < trust[39]
    assert trust[39] > 0.9


@pytest.mark.parametrize("settings", [{"identity_lock": False}, {"smoothing": False}])
def test_no_lock_where_none_is_wanted_or_nothing_is_followed(remembering: Bundle, settings: Any) -> None:
    pipeline = pipe(remembering, **settings)
    pipeline.process(frame())
    assert pipeline.people[3].lock is None


def test_an_encoder_without_a_memory_is_not_locked(bundle: Bundle) -> None:
    pipeline = pipe(bundle, identity_lock=True)
    pipeline.process(frame())
    assert pipeline.people[3].lock is None


@pytest.mark.parametrize(("steps", "share"), [(1, 0.5), (2, 0.75), (None, 1 - 0.5**5)])
def test_the_loop_takes_as_many_steps_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None, share: float
) -> None:
    """The stand-in for ReStyle goes half of what is left in every step."""
    bundle = seeing(open_bundle(tiny.write_bundle(tmp_path / "restyle", restyle=True)), monkeypatch)
    pipeline = pipe(bundle, steps=steps)
    pipeline.process(frame((0, 0, 200)))
    assert pipeline.people[3].own_codes[0, 0, 0] == pytest.approx(share * (200 / 127.5 - 1), abs=0.02)


@pytest.mark.parametrize(
    ("composite", "when_lost", "expected"),
    [
        ("face", None, "frame"),
        ("head", None, "frame"),
        ("replace", None, "hold"),
        ("replace", "blank", "blank"),
    ],
)
def test_what_is_shown_without_a_face_follows_from_the_mode_unless_said(
    bundle: Bundle, composite: str, when_lost: Any, expected: str
) -> None:
    assert pipe(bundle, composite=composite, when_lost=when_lost).when_lost == expected


def test_a_frame_without_a_face_is_handed_on_as_a_copy(bundle: Bundle) -> None:
    given = frame(BLACK)
    out = pipe(bundle).process(given)
    assert not np.shares_memory(out, given)
    np.testing.assert_array_equal(out, given)


def test_edits_act_from_the_next_frame_on_and_can_be_taken_back(bundle: Bundle) -> None:
    pipeline = pipe(bundle, smoothing=False)
    plain = pipeline.process(frame())
    pipeline.edits = {"red": 2.0}
    edited = pipeline.process(frame())
    pipeline.edits = {}
    again = pipeline.process(frame())
    assert at(edited, LEFT)[2] > at(plain, LEFT)[2] + 40
    np.testing.assert_array_equal(again, plain)


def test_the_mapping_that_was_given_stays_the_callers(bundle: Bundle) -> None:
    edits = {"red": 1.0}
    pipeline = pipe(bundle, edits=edits)
    edits["red"] = 2.0
    assert pipeline.edits == {"red": 1.0}


def test_a_frame_is_counted_when_it_is_finished(bundle: Bundle) -> None:
    pipeline = pipe(bundle)
    pipeline.process(frame())
    pipeline.process(frame())
    assert pipeline.clock.report().frames == 2


def test_whole_frames_go_through_with_their_time_and_index(bundle: Bundle) -> None:
    pipeline = pipe(bundle, edits={"red": 1.0})
    given = Frame(frame(), index=4, time_s=2.5)
    out = pipeline.process_frame(given)
    assert (out.index, out.time_s) == (4, 2.5)
    assert pipeline._tracker.times_s == [2.5]
    assert at(out.image, LEFT)[2] > at(given.image, LEFT)[2] + 20


def test_who_was_seen_lately_is_known_however_long_ago_they_came(bundle: Bundle) -> None:
    pipeline = pipe(bundle)
    pipeline.process(frame(), 0.0)
    person = pipeline.people[3]
    for time_s in (4.0, 8.0):
        pipeline.process(frame(), time_s)
    pipeline.process(frame(BLACK), 8.1)
    pipeline.process(frame(), 12.9)
    assert pipeline.people[3] is person


def codes_of(value: float) -> np.ndarray:
    codes = np.zeros((1, tiny.STYLES, tiny.W_DIM), np.float32)
    codes[..., 3:] = value  # what the stand-in encoder never reads
    return codes


def test_given_codes_are_drawn_and_moved_by_who_is_seen(bundle: Bundle) -> None:
    pipeline = pipe(bundle, codes=codes_of(0.5))
    pipeline.process(frame((0, 0, 100)), 0.0)
    np.testing.assert_allclose(pipeline.people[3].own_codes, codes_of(0.5), atol=1e-6)
    for k in range(40, 80):
        pipeline.process(frame((0, 0, 200)), k / 30)
    expected = codes_of(0.5)
    expected[..., 0] = 100 / 127.5
    np.testing.assert_allclose(pipeline.people[3].own_codes, expected, atol=0.05)


def test_given_codes_are_drawn_as_they_are_into_unrelated_pictures(bundle: Bundle) -> None:
    pipeline = pipe(bundle, codes=codes_of(0.5), smoothing=False)
    for color in ((0, 0, 100), (0, 0, 200)):
        pipeline.process(frame(color))
        np.testing.assert_array_equal(pipeline.people[3].own_codes, codes_of(0.5))


class Noting:
    """A marker that notes what it is given."""

    def __init__(self) -> None:
        self.latest = True
        self.given: list[tuple[Image, Image | None, int]] = []

    def apply(self, out: Image, original: Image | None, crops: list[Any]) -> None:
        self.given.append((out.copy(), original, len(crops)))
        out[0, 0] = (1, 2, 3)


@pytest.mark.parametrize("composite", ["head", "face", "replace", "difference"])
def test_what_was_drawn_is_marked_last(bundle: Bundle, composite: str) -> None:
    marker = Noting()
    given = frame()
    out = pipe(bundle, composite=composite, edits={"red": 1.0}, marker=marker).process(given)
    ((drawn, original, crops),) = marker.given
    assert crops == 1
    assert (original is None) == (composite == "replace")  # all of a replaced frame is synthetic
    assert original is None or original is given
    assert out[0, 0].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(out[1:], drawn[1:])


def test_a_frame_without_a_face_is_not_marked(bundle: Bundle) -> None:
    marker = Noting()
    out = pipe(bundle, marker=marker).process(frame(BLACK))
    assert marker.given == []
    assert not marker.latest
    np.testing.assert_array_equal(out, frame(BLACK))


def test_every_face_is_marked(bundle: Bundle) -> None:
    marker = Noting()
    pipe(bundle, marker=marker, max_faces=2).process(halves((60, 90, 120), (120, 60, 30)))
    assert [crops for *_, crops in marker.given] == [2]


def test_what_is_held_is_marked_too(bundle: Bundle) -> None:
    pipeline = pipe(bundle, when_lost="hold", marker=Noting())
    pipeline.process(frame())
    assert pipeline.process(frame(BLACK))[0, 0].tolist() == [1, 2, 3]


def test_stages_are_timed_by_name(bundle: Bundle) -> None:
    pipeline = pipe(bundle, edits={"red": 1.0}, marker=Noting())
    pipeline.process(frame())
    names = [stage.name for stage in pipeline.clock.report().stages]
    assert names == ["track", "align", "encode", "edit", "synthesize", "composite", "mark"]


@pytest.fixture
def enrolled(bundle: Bundle) -> Bundle:
    """The bundle as one of a person whose code is 0.5 where the stand-in encoder never reads."""
    person = Enrollment("tiny", "0" * 64, 1, 150, 30.0, (12.0, 30.0), "2026-11-27", "test", motion="relative")
    bundle.manifest = msgspec.structs.replace(bundle.manifest, enrollment=person)
    bundle.latent = {**bundle.latent, "pivot": codes_of(0.5)[0]}
    return bundle


def test_an_enrolled_person_moves_as_the_bundle_says_unless_told(enrolled: Bundle) -> None:
    for motion, is_relative in ((None, True), ("relative", True), ("absolute", False)):
        pipeline = pipe(enrolled, motion=motion)
        pipeline.process(frame())
        assert np.allclose(pipeline.people[3].own_codes, codes_of(0.5), atol=1e-5) is is_relative


def test_unrelated_pictures_have_no_neutral_face_to_compare_with(enrolled: Bundle) -> None:
    with pytest.raises(EditError, match="expected a video or a camera, got unrelated pictures"):
        pipe(enrolled, motion="relative", smoothing=False)
    for motion in (None, "absolute"):
        pipeline = pipe(enrolled, motion=motion, smoothing=False)
        pipeline.process(frame((0, 0, 200)))
        assert pipeline.people[3].own_codes[0, 0, 0] == pytest.approx(200 / 127.5 - 1, abs=0.02)


def test_an_enrolled_person_may_be_someone_else_so_that_the_face_is_drawn(enrolled: Bundle) -> None:
    assert Pipeline(enrolled).composite == "face"
    assert Pipeline(enrolled, composite="difference").composite == "difference"


def test_a_bundle_that_does_not_say_how_codes_spread_has_a_spread_of_one(bundle: Bundle) -> None:
    def followed() -> np.ndarray:
        pipeline = pipe(bundle)
        for red in (0, 40, 90):
            pipeline.process(frame((0, 0, red)))
        return pipeline.people[3].own_codes

    expected = followed()
    assert (bundle.latent["w_std"] == 1).all()
    bundle.latent = {"latent_avg": bundle.latent_avg}
    np.testing.assert_allclose(followed(), expected, atol=1e-6)
