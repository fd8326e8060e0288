"""The flow from frame to frame, on networks of known answers and a tracker that always knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from doppelgan.runtime import pipeline as pipeline_module
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.composite import Difference
from doppelgan.runtime.edit.effect import Effect
from doppelgan.runtime.errors import BundleError, EditError
from doppelgan.runtime.face_mesh import FACE_OVAL, LEFT_EYE, MOUTH_CORNERS, N_POINTS, RIGHT_EYE
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.types import Face, Image

from .. import tiny

HEIGHT, WIDTH = 120, 160
CENTER = np.array([80.0, 60.0])


def landmarks_at(center: np.ndarray, width: float = 50.0) -> np.ndarray:
    """A flat face: an oval, two eyes, two mouth corners; all other points in the middle."""
    points = np.zeros((N_POINTS, 3), np.float32)
    points[:, :2] = center
    turn = np.linspace(-np.pi / 2, 1.5 * np.pi, len(FACE_OVAL), endpoint=False)
    points[list(FACE_OVAL), :2] = center + width * np.stack([0.5 * np.cos(turn), 0.65 * np.sin(turn)], 1)
    points[list(RIGHT_EYE), :2] = center + width * np.array([-0.22, -0.1])
    points[list(LEFT_EYE), :2] = center + width * np.array([0.22, -0.1])
    points[MOUTH_CORNERS[0], :2] = center + width * np.array([-0.17, 0.33])
    points[MOUTH_CORNERS[1], :2] = center + width * np.array([0.17, 0.33])
    return points


class KnowingTracker:
    """Sees one face in the middle of every frame that is not black."""

    def __init__(self, *_: object, max_faces: int = 1, **__: object) -> None:
        self.resets = 0

    def update(self, image: Image, time_s: float) -> list[Face]:
        return [Face(7, landmarks_at(CENTER), 1.0)] if image.any() else []

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def bundle(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return knowing(open_bundle(tiny_bundle), monkeypatch)


def knowing(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle, its trackers replaced by one that always knows."""
    monkeypatch.setattr(pipeline_module, "Tracker", KnowingTracker)
    real = opened.session
    trackers = {"detector", "landmarks"}
    monkeypatch.setattr(opened, "session", lambda name: SimpleNamespace() if name in trackers else real(name))
    return opened


def frame(color: tuple[int, int, int] = (60, 90, 150)) -> Image:
    return np.full((HEIGHT, WIDTH, 3), color, np.uint8)


def middle(image: Image) -> list[int]:
    return image[int(CENTER[1]), int(CENTER[0])].tolist()


class TwoFaces(KnowingTracker):
    """Sees a face at either side of every frame."""

    def update(self, image: Image, time_s: float) -> list[Face]:
        places = np.array([image.shape[1] / 4, image.shape[0] / 2]), np.array([image.shape[1] * 0.75, 60.0])
        return [Face(k, landmarks_at(place, 25.0), 1.0) for k, place in enumerate(places)]


def textured(seed: int = 0) -> Image:
    """A skin-colored frame of which every pixel differs."""
    rng = np.random.default_rng(seed)
    return (np.array([60, 90, 150]) + rng.integers(-8, 9, (HEIGHT, WIDTH, 3))).astype(np.uint8)


def test_without_edits_a_flat_face_comes_back_as_it_was(bundle: Bundle) -> None:
    given = frame()
    out = Pipeline(bundle).process(given)
    assert out.shape == given.shape
    assert out.dtype == np.uint8
    np.testing.assert_allclose(out, given, atol=2)


def test_the_frame_that_was_given_is_not_modified(bundle: Bundle) -> None:
    given = frame()
    Pipeline(bundle, {"red": 2.0}, composite="head").process(given)
    np.testing.assert_array_equal(given, frame())


def test_an_edit_changes_the_code_of_the_face(bundle: Bundle) -> None:
    plain, edited = Pipeline(bundle), Pipeline(bundle, {"red": 2.0})
    plain.process(frame())
    edited.process(frame())
    difference = edited.people[7].codes - plain.people[7].codes
    np.testing.assert_allclose(difference[0, :, 0], 0.5, atol=1e-5)
    np.testing.assert_allclose(difference[0, :, 1:], 0.0, atol=1e-5)


def test_edits_and_style_can_change_while_running(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, composite="face")
    pipeline.process(frame())
    photo = pipeline.people[7].picture.copy()
    pipeline.style = "toon"
    pipeline.process(frame())
    np.testing.assert_allclose(pipeline.people[7].picture, -photo, atol=1e-4)
    with pytest.raises(EditError, match="green"):
        pipeline.edits = {"greeen": 1.0}


def test_truncation_zero_gives_the_average_face(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, truncation=0.0)
    pipeline.process(frame())
    np.testing.assert_allclose(pipeline.people[7].codes[0], bundle.latent_avg, atol=1e-6)


@pytest.mark.parametrize(
    ("when_lost", "expected"),
    [("frame", [0, 0, 0]), ("blank", [24, 24, 24]), ("hold", None)],
)
def test_policy_without_a_face(bundle: Bundle, when_lost, expected) -> None:
    pipeline = Pipeline(bundle, when_lost=when_lost)
    shown = pipeline.process(frame())
    lost = pipeline.process(frame((0, 0, 0)))
    assert middle(lost) == (middle(shown) if expected is None else expected)


def test_a_replaced_frame_never_falls_back_to_the_real_one(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, composite="replace")
    assert pipeline.when_lost == "hold"
    lost = frame((0, 0, 0))
    lost[0, 0] = 0  # black: no face known yet, so nothing to hold
    assert middle(pipeline.process(lost)) == [24, 24, 24]


def test_a_replaced_frame_shows_nothing_of_the_one_given(bundle: Bundle) -> None:
    given = frame()
    given[:, :20] = np.random.default_rng(0).integers(0, 256, (HEIGHT, 20, 3))
    held = given.copy()
    out = Pipeline(bundle, composite="replace").process(given)
    np.testing.assert_array_equal(given, held)
    assert out.flags.c_contiguous
    assert not np.shares_memory(out, given)
    plain = Pipeline(bundle, composite="replace").process(frame())
    np.testing.assert_allclose(out, plain, atol=1)


def test_people_who_left_are_forgotten(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle)
    pipeline.process(frame())
    assert list(pipeline.people) == [7]
    pipeline.process(frame((0, 0, 0)))
    assert pipeline.people == {}


def test_codes_behind_a_lock_lag_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = knowing(open_bundle(tiny.write_bundle(tmp_path / "locking", remembers=True)), monkeypatch)

    def arrived(identity_lock: bool) -> float:
        """How much of a jump the codes have made after a tenth of a second."""
        pipeline = Pipeline(bundle, identity_lock=identity_lock)
        pipeline.process(frame(), 0.0)
        (person,) = pipeline.people.values()
        assert person.smoother is not None
        assert person.own_codes is not None
        start, jump = person.own_codes, 0.2 * np.float32(bundle.latent.get("w_std", 1.0))
        for k in (1, 2, 3):
            now = person.smoother(start + jump, k / 30)
        return float(np.mean((now - start) / jump))

    assert arrived(identity_lock=True) > arrived(identity_lock=False) + 0.1


def test_every_stage_has_a_clock(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, {"red": 1.0})
    for _ in range(3):
        pipeline.process(frame())
    stages = {stage.name for stage in pipeline.clock.report().stages}
    assert {"track", "align", "encode", "edit", "synthesize", "composite"} <= stages


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"edits": {"blue": 1.0}}, EditError, "blue"),
        ({"style": "oil"}, BundleError, "photo, toon"),
        ({"composite": "hat"}, ValueError, "face"),
        ({"composite": "replace", "max_faces": 2}, ValueError, "max_faces=2"),
        ({"when_lost": "panic"}, ValueError, "hold"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_frame(bundle: Bundle, settings, error, words) -> None:
    with pytest.raises(error, match=words):
        Pipeline(bundle, **settings)


def test_frames_of_another_kind_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="BGR uint8"):
        Pipeline(bundle).process(np.zeros((HEIGHT, WIDTH), np.uint8))


def test_without_an_edit_every_byte_of_the_frame_stays(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle)
    assert pipeline.composite == "difference"
    for seed in range(2):
        out = pipeline.process(textured(seed))
        np.testing.assert_array_equal(out, textured(seed))
    assert not np.shares_memory(out, textured(1))
    pipeline.edits = {"red": 0.0}
    np.testing.assert_array_equal(pipeline.process(textured()), textured())


def test_the_difference_is_added_to_the_persons_own_pixels(bundle: Bundle) -> None:
    given = textured()
    out = Pipeline(bundle, {"red": 1.0}).process(given).astype(int)
    y, x = CENTER.astype(int)[::-1]
    change = (out - given)[y - 5 : y + 6, x - 5 : x + 6]
    assert change[..., 2].min() > 20  # red; a quarter of -1..1 is 32 levels
    assert np.ptp(change[..., 2]) <= 2  # the texture below is untouched
    assert not change[..., :2].any()
    np.testing.assert_array_equal(out[:5], given[:5])


def test_the_next_frame_shows_its_own_pixels(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, {"red": 1.0})
    y, x = CENTER.astype(int)[::-1]
    for seed in range(3):
        out = pipeline.process(textured(seed)).astype(int)
        assert np.ptp((out - textured(seed))[y - 5 : y + 6, x - 5 : x + 6, 2]) <= 2


def test_edits_style_and_mode_take_effect_at_the_next_frame(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, {"red": 1.0})
    red = middle(pipeline.process(frame()))
    pipeline.edits = {"green": 1.0}
    green = middle(pipeline.process(frame()))
    fresh = Pipeline(bundle, {"green": 1.0})
    assert red[2] > 150 + 20
    assert green == middle(fresh.process(frame()))
    pipeline.style = "toon"  # of another make than the camera's picture: pasted
    assert pipeline.composite == "face"
    pasted = pipeline.process(frame())
    np.testing.assert_array_equal(pasted, Pipeline(bundle, {"green": 1.0}, style="toon").process(frame()))
    pipeline.style = "photo"
    assert pipeline.composite == "difference"
    assert middle(pipeline.process(frame())) == green
    pipeline.composite = "head"
    np.testing.assert_allclose(
        pipeline.process(frame()), Pipeline(bundle, {"green": 1.0}, composite="head").process(frame()), atol=1
    )
    pipeline.composite = None
    assert pipeline.composite == "difference"


def test_a_mode_assigned_acts_on_people_in_view_and_on_what_is_shown_without_them(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, {"red": 1.0}, style="toon")
    pipeline.process(textured())
    assert pipeline.when_lost == "frame"
    pipeline.composite = "replace"
    shown = pipeline.process(textured())
    assert (shown[:3] != textured()[:3]).any()  # nothing of the frame is left, up to its corners
    assert pipeline.when_lost == "hold"
    np.testing.assert_array_equal(pipeline.process(np.zeros_like(shown)), shown)
    with pytest.raises(ValueError, match="difference, face, head, replace"):
        pipeline.composite = "hat"
    pipeline.composite = "face"
    assert pipeline.when_lost == "frame"


def test_what_is_held_is_not_handed_out(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, composite="replace")
    shown = pipeline.process(frame())
    kept = shown.copy()
    shown[:] = 0  # the caller draws on it
    for _ in range(2):
        held = pipeline.process(frame((0, 0, 0)))
        np.testing.assert_array_equal(held, kept)
        held[:] = 0


def test_several_people_are_edited_each_with_a_state_of_their_own(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "Tracker", TwoFaces)
    pipeline = Pipeline(bundle, {"red": 1.0}, max_faces=2)
    given = frame()
    given[:, WIDTH // 2 :] = (30, 45, 75)  # the second one's room is dark
    for _ in range(3):
        out = pipeline.process(given).astype(int) - given
    left, right = out[60, WIDTH // 4, 2], out[60, WIDTH * 3 // 4, 2]
    assert left > 20
    assert right > 20
    first, second = (person.difference for person in pipeline.people.values())
    assert first is not second
    alone = Pipeline(bundle, {"red": 1.0}, max_faces=2)
    np.testing.assert_allclose(alone.process(given).astype(int) - given, out, atol=2)


def test_frames_may_change_their_size_and_a_reset_forgets(bundle: Bundle) -> None:
    pipeline = Pipeline(bundle, {"red": 1.0})
    pipeline.process(textured())
    larger = np.pad(textured(), ((0, 40), (0, 30), (0, 0)), mode="edge")
    out = pipeline.process(larger)
    assert out.shape == larger.shape
    assert middle(out)[2] > middle(larger)[2] + 20
    before = pipeline.people[7].difference
    pipeline.reset()
    pipeline.process(textured())
    assert pipeline.people[7].difference is not before


def test_less_truncation_is_an_edit_as_well(bundle: Bundle) -> None:
    out = Pipeline(bundle, truncation=0.5).process(frame())
    assert middle(out) != middle(frame())
    assert middle(out)[2] < 150  # half-way to the average, which is grey


def test_edits_that_move_and_edits_of_looks_go_together(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = np.zeros((N_POINTS, 2), np.float32)
    shift[:, 0] = 0.02  # of the square: to the right
    bundle.effects["green"] = Effect(shift, explained=0.5, size=16)
    pipeline = Pipeline(bundle, {"red": 1.0, "green": 1.0})
    calls = []
    apply = pipeline.process
    monkeypatch.setattr(
        Difference,
        "apply",
        lambda _self, _frame, plain, moved, edited, _crop, by, _time_s, fades: calls.append(
            (plain.copy(), moved.copy(), edited.copy(), by)
        ),
    )
    apply(frame())
    ((plain, moved, edited, by),) = calls
    np.testing.assert_allclose(
        moved - plain, np.array([0, 0.25, 0])[:, None, None] * np.ones_like(plain), atol=1e-5
    )
    np.testing.assert_allclose(
        edited - moved, np.array([0.25, 0, 0])[:, None, None] * np.ones_like(plain), atol=1e-5
    )
    np.testing.assert_allclose(by, shift, atol=1e-6)
    pipeline.edits = {"green": 1.0}
    apply(frame())
    assert np.array_equal(calls[1][1], calls[1][2])  # nothing but movement
    pipeline.edits = {"red": 1.0, "green": 0.0}
    apply(frame())
    assert np.array_equal(calls[2][0], calls[2][1])  # nothing that moves
    assert calls[2][3] is None
