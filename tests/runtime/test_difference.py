"""The difference on schematic faces: light, leaks, what stands before the face, movement, time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from doppelgan.runtime.align import align
from doppelgan.runtime.composite import Difference, masks
from doppelgan.runtime.composite.masks import Agreement, covered, reachable
from doppelgan.runtime.composite.movement import flow_of
from doppelgan.runtime.face_mesh import FACE_OVAL, LIPS, N_POINTS
from doppelgan.runtime.types import Crop, Floats, Image

from .test_composite import in_frame, make_face

WIDTH, HEIGHT, SIZE = 320, 240, 128
SKIN = np.array([0.2, -0.1, -0.3])  # RGB, of the reconstruction


SHEER = masks.SHEER


@pytest.fixture(autouse=True)
def _dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits hide what they cover, so that what is added is known; the tests of SHEER set it again."""
    monkeypatch.setattr(masks, "SHEER", 0.0)


def levels(color: np.ndarray) -> np.ndarray:
    """RGB -1..1 -> BGR 0..255"""
    return color[::-1] * 127.5 + 127.5


def photo(light: float | np.ndarray = 1.0, noise: float = 6.0, seed: int = 0) -> Image:
    """A frame of skin in some light, with a texture of its own."""
    skin = (SKIN + 1) * light - 1
    grain = np.random.default_rng(seed).normal(0, noise, (HEIGHT, WIDTH, 3))
    return np.clip(np.rint(levels(skin) + grain), 0, 255).astype(np.uint8)


def picture(color: np.ndarray = SKIN) -> Floats:
    return np.broadcast_to(color[:, None, None], (3, SIZE, SIZE)).astype(np.float32)


def bearded(by: float = -0.6, rows: slice = slice(70, 100), columns: slice = slice(44, 84)) -> Floats:
    edited = picture().copy()
    edited[:, rows, columns] += by
    return edited


def square(frame: Image) -> Crop:
    return align(frame, make_face(scale=1.6), SIZE)


def shown(
    frame: Image,
    edited: Floats,
    plain: Floats | None = None,
    moved: Floats | None = None,
    shift: Floats | None = None,
    difference: Difference | None = None,
    time_s: float = 0.0,
    fades: bool = False,
) -> np.ndarray:
    """What is added to a frame, int [H,W,3]."""
    plain = picture() if plain is None else plain
    moved = plain if moved is None else moved
    crop = square(frame)
    out = (difference or Difference()).apply(frame.copy(), plain, moved, edited, crop, shift, time_s, fades)
    return out.astype(int) - frame


def at(frame: np.ndarray, column: float, row: float, reach: int = 3) -> np.ndarray:
    """[n,3] around a point of the square, in its shares."""
    x, y = in_frame(square(photo()), column, row)
    return frame[y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 3)


BEARD, FOREHEAD, CHEEK = (0.5, 0.66), (0.5, 0.3), (0.4, 0.66)


def test_a_difference_lands_where_it_is_drawn_and_keeps_the_grain() -> None:
    added = shown(photo(noise=3), bearded(-0.5))
    assert np.abs(at(added, *BEARD) - -0.5 * 127.5).max() <= 4
    assert not at(added, *FOREHEAD).any()
    assert np.ptp(at(added, *BEARD), axis=0).max() <= 3


def test_pictures_that_do_not_differ_leave_every_byte() -> None:
    assert not shown(photo(), picture()).any()


@pytest.mark.parametrize("light", [0.5, 1.5, np.array([1.4, 0.9, 0.6])])
def test_the_difference_takes_on_the_persons_light(light: float | np.ndarray) -> None:
    added = at(shown(photo(light, noise=2), bearded(-0.4)), *BEARD).mean(axis=0)
    expected = -0.4 * 127.5 * (np.ones(3) * light)[::-1]
    np.testing.assert_allclose(added, expected, rtol=0.12)


def test_a_face_that_is_dark_already_is_not_made_darker_than_the_edit() -> None:
    frame = photo(noise=0)
    x, y = in_frame(square(frame), *BEARD)
    target = levels(np.clip(SKIN - 0.5, -1, 1))
    frame[y - 12 : y + 13, x - 16 : x + 17] = target + 10  # a beard of nearly that darkness
    result = frame + shown(frame, bearded(-0.5))
    np.testing.assert_allclose(at(result, *BEARD).mean(axis=0), target, atol=8)


def test_skin_shows_through_a_dark_beard_and_dark_hair_is_as_dark_as_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edited = bearded(-0.6)
    edited[:, 12:24, 30:98] -= 0.6
    edited[:, 30:60, 30:98] += 0.3  # skin and hair are edited: nothing beside the face is a leak
    hair = (64 / SIZE, 18 / SIZE)
    dense = shown(photo(noise=0), edited)
    monkeypatch.setattr(masks, "SHEER", SHEER)
    sheer = shown(photo(noise=0), edited)
    hidden = 0.6 / (1 + SKIN[2])  # of the channel that loses most
    expected = 1 - SHEER * hidden
    assert at(sheer, *BEARD).mean() / at(dense, *BEARD).mean() == pytest.approx(expected, abs=0.03)
    assert at(sheer, *hair, 1).mean() == pytest.approx(at(dense, *hair, 1).mean(), abs=2)
    assert at(sheer, *FOREHEAD).mean() == pytest.approx(at(dense, *FOREHEAD).mean(), abs=1)


def test_a_brown_beard_is_as_dense_as_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    brown = bearded(-0.38)
    dense = at(shown(photo(noise=0), brown), *BEARD).mean()
    monkeypatch.setattr(masks, "SHEER", SHEER)
    assert at(shown(photo(noise=0), brown), *BEARD).mean() == pytest.approx(dense, abs=1)


def test_what_is_hidden_takes_its_own_hue_along() -> None:
    change, drawn = np.full((3, 16, 16), -0.9, np.float32), np.full((3, 16, 16), 1.0, np.float32)
    error = np.zeros_like(change)
    error[0] = 0.1  # redder than reconstructed
    hidden, near = covered(change, drawn), np.ones((16, 16), np.float32)
    np.testing.assert_allclose(hidden, 0.9, atol=1e-3)
    added = change * reachable(change, change - error, hidden, near)
    np.testing.assert_allclose(added[0], -0.99, atol=0.003)
    np.testing.assert_allclose(added[1:], -0.9, atol=0.003)
    assert not covered(-change, drawn).any()  # grey hair hides nothing for certain
    far = reachable(change, change - 10 * error, hidden, near)
    assert far.max() == pytest.approx(masks.MOST)


@pytest.mark.parametrize("light", [np.ones(3), np.array([1.25, 1.0, 0.8])])
def test_what_fades_takes_the_persons_own_hue_and_brings_none(light: np.ndarray) -> None:
    brown, blue_grey = np.array([-0.3, -0.5, -0.65]), np.array([-0.1, 0.0, 0.1])
    hair = (slice(None), slice(20, 44), slice(24, 104))
    plain, edited = picture().copy(), picture().copy()
    plain[hair], edited[hair] = brown[:, None, None], blue_grey[:, None, None]
    frame = photo(light, noise=0)
    left, top = in_frame(square(frame), 24 / SIZE, 20 / SIZE)
    right, bottom = in_frame(square(frame), 104 / SIZE, 44 / SIZE)
    frame[top:bottom, left:right] = levels((brown + 1) * light - 1)

    def color_of(fades: bool) -> np.ndarray:
        after = at(frame + shown(frame, edited, plain, fades=fades), 0.5, 0.25).mean(axis=0)[::-1]
        return np.asarray(after / after.mean())

    blue = color_of(False) / light
    assert blue[2] - blue[0] > 0.15, "as drawn"
    np.testing.assert_allclose(color_of(True), 0.75 + 0.25 * light / light.mean(), atol=0.03)
    assert not shown(frame, plain, plain, fades=True).any()


def test_small_differences_are_leaks() -> None:
    edited = bearded(-0.6)
    edited[:, 20:50, 30:100] += 0.06  # forehead, a tenth of the edit
    added = shown(photo(), edited)
    assert not at(added, *FOREHEAD).any()
    assert at(added, *BEARD).mean() < -60
    faint = picture().copy()
    faint[:, 20:50, 30:100] += 0.15  # as an edit of its own the same would be visible
    assert at(shown(photo(), faint), *FOREHEAD).mean() > 10


def test_beside_the_face_a_beards_other_hair_is_a_leak_and_hair_and_skin_are_not() -> None:
    column, row = 64 / SIZE, 18 / SIZE

    def there(edited: Floats) -> float:
        return float(at(shown(photo(noise=0), edited), column, row, reach=1).mean())

    hair = picture().copy()
    hair[:, 12:24, 30:98] -= 0.5
    beard = bearded(-0.5)
    beard[:, 12:24, 30:98] -= 0.5
    skin = picture() - np.float32(0.3)
    assert there(hair) < -30
    assert there(beard) > -2
    assert there(skin) < -20


def with_object(frame: Image, color: tuple[int, int, int]) -> tuple[Image, np.ndarray]:
    """Something before the beard's left half; its pixels, without the edge."""
    frame = frame.copy()
    x, y = in_frame(square(frame), *CHEEK)
    frame[y - 26 : y + 26, x - 26 : x + 16] = color
    inner = np.zeros(frame.shape[:2], bool)
    inner[y - 20 : y + 20, x - 20 : x + 10] = True
    return frame, inner


@pytest.mark.parametrize("color", [(200, 180, 40), (30, 30, 30), (250, 250, 250)])
def test_what_stands_before_the_face_hides_the_edit(color: tuple[int, int, int]) -> None:
    frame, inner = with_object(photo(), color)
    added = shown(frame, bearded())
    assert np.abs(added[inner]).max() <= 2
    assert at(added, 0.6, 0.66).mean() < -50  # beside it the edit goes on


def test_an_object_is_given_way_at_once_and_the_edit_returns_steadily() -> None:
    difference, step = Difference(), 1 / 30
    covered, inner = with_object(photo(), (200, 180, 40))
    for k in range(20):
        shown(photo(seed=k), bearded(), difference=difference, time_s=k * step)
    first = shown(covered, bearded(), difference=difference, time_s=20 * step)[inner].mean()
    third = [shown(covered, bearded(), difference=difference, time_s=(21 + k) * step) for k in range(4)][-1]
    bare = shown(photo(), bearded())[inner].mean()
    assert abs(first) < 0.75 * abs(bare)
    assert np.abs(third[inner]).mean() < 3
    back = [
        shown(photo(seed=k), bearded(), difference=difference, time_s=(25 + k) * step)[inner].mean()
        for k in range(30)
    ]
    assert abs(back[0]) < 0.4 * abs(bare)
    assert abs(back[-1]) > 0.85 * abs(bare)
    assert all(later <= earlier + 1.5 for earlier, later in itertools.pairwise(back))


def test_a_small_lasting_error_becomes_the_usual_one_and_a_large_one_never() -> None:
    """Makeup is no hand; a hand that stays is still a hand."""
    frame = photo(noise=0)
    x, y = in_frame(square(frame), *BEARD)
    for deviation, grows in ((0.45, True), (1.0, False)):
        difference = Difference()
        made_up = frame.astype(int)
        made_up[y - 30 : y + 31, x - 12 : x + 13, 0] += round(deviation * 127.5)
        made_up = np.clip(made_up, 0, 255).astype(np.uint8)
        runs = [
            abs(at(shown(made_up, bearded(), difference=difference, time_s=k / 15), *BEARD)[:, 2].mean())
            for k in range(120)
        ]
        assert (runs[-1] > 1.1 * runs[0] and runs[-1] > 65) == grows
        assert grows or runs[-1] < 3


def shift_of(points: tuple[int, ...], by: tuple[float, float]) -> Floats:
    shift = np.zeros((N_POINTS, 2), np.float32)
    shift[list(points)] = by
    return shift


def stripes(width: int = 6) -> Image:
    frame = photo(noise=0)
    frame[:, (np.arange(WIDTH) // width) % 2 == 0] += 12
    return frame


def test_pixels_follow_the_mesh_and_the_far_ones_stay() -> None:
    frame = stripes()
    side = square(frame).size * np.hypot(*square(frame).matrix[:, 0])
    shift = shift_of(tuple(range(N_POINTS)), (6 / side, 0.0))  # half a period to the right
    out = frame + shown(frame, picture(), shift=shift)
    x, y = in_frame(square(frame), 0.5, 0.5)
    np.testing.assert_allclose(out[y, x - 10 : x + 10], frame[y, x - 16 : x + 4], atol=2)
    np.testing.assert_array_equal(out[:, :20], frame[:, :20])
    np.testing.assert_array_equal(out[:, -20:], frame[:, -20:])


def test_only_eyes_and_mouth_that_part_show_what_movement_leaves() -> None:
    frame = photo(noise=0)
    moved = picture().copy()
    moved[:, 76:88, 56:72] -= 0.7  # an opened mouth, dark
    moved[:, 20:24, 40:90] -= 0.7  # the ghost of a hairline
    lower = tuple(p for p in LIPS if p in (146, 91, 181, 84, 17, 314, 405, 321, 375))
    still = shown(frame, moved, moved=moved, shift=shift_of(tuple(range(N_POINTS)), (0.03, 0.0)))
    assert np.abs(still).max() <= 2  # all of the mesh moves, nothing parts
    crop = square(frame)
    landmarks = crop.landmarks.copy()
    landmarks[list(LIPS), :2] = np.array([64.0, 82.0]) + 14 * np.stack(
        [np.cos(np.linspace(np.pi, -np.pi, len(LIPS))), 0.5 * np.sin(np.linspace(np.pi, -np.pi, len(LIPS)))],
        1,
    )
    with_mouth = Crop(pixels=crop.pixels, matrix=crop.matrix, landmarks=landmarks)
    out = Difference().apply(
        frame.copy(), picture(), moved, moved, with_mouth, shift_of(lower, (0.0, 0.03)), 0.0
    )
    added = out.astype(int) - frame
    x, y = in_frame(crop, 0.5, 82.5 / SIZE)
    assert added[y, x].max() < -50
    x, y = in_frame(crop, 0.5, 22 / SIZE)
    assert np.abs(added[y, x]).max() <= 2


def test_light_does_not_jump_with_a_single_frame_and_does_follow() -> None:
    difference = Difference()
    bright, dark = photo(1.0, noise=0), photo(0.6, noise=0)

    def run(frame: Image, k: int) -> float:
        return float(at(shown(frame, bearded(-0.3), difference=difference, time_s=k / 30), *BEARD).mean())

    for k in range(10):
        before = run(bright, k)
    just_after = run(dark, 10)
    for k in range(11, 60):
        later = run(dark, k)
    assert before < just_after < later < 0
    assert abs(later) == pytest.approx(0.6 * abs(before), rel=0.12)


@pytest.mark.parametrize("time_s", [10.0, -1.0])
def test_after_a_pause_or_a_step_back_nothing_is_remembered(time_s: float) -> None:
    difference = Difference()
    for k in range(10):
        shown(photo(1.0), bearded(), difference=difference, time_s=k / 30)
    late = shown(photo(0.5), bearded(), difference=difference, time_s=time_s)
    np.testing.assert_array_equal(late, shown(photo(0.5), bearded()))


def test_pictures_of_another_size_start_anew() -> None:
    difference = Difference()
    for k in range(-3, 1):
        shown(photo(), bearded(), difference=difference, time_s=k / 30)
    small = [np.ascontiguousarray(p[:, ::4, ::4]) for p in (picture(), bearded())]
    for k in range(1, 4):
        out = shown(photo(), small[1], plain=small[0], difference=difference, time_s=k / 30)
    assert at(out, *BEARD).mean() < -50


def test_pictures_must_be_of_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        shown(photo(), np.zeros((3, 64, 64), np.float32))


@pytest.mark.parametrize(
    ("scale", "needed", "expected"),
    [
        (1.6, 1 << 16, 256),  # a square of some 240 px
        (6.4, 1 << 16, 1024),
        (0.5, 1 << 16, 64),
        (6.4, 128, 128),  # no finer than the edit
        (0.1, 16, 64),
    ],
)
def test_pictures_are_asked_for_only_as_fine_as_face_and_edit_need(
    scale: float, needed: int, expected: int
) -> None:
    crop = align(photo(), make_face(scale=scale), SIZE)
    assert Difference().size_for(crop, 1024, needed) == expected


def test_a_face_at_the_limit_between_two_sizes_keeps_its_own() -> None:
    difference = Difference()
    sizes = [
        difference.size_for(align(photo(), make_face(scale=s), SIZE), 1024, 1 << 16)
        for s in (2.0, 1.55, 1.62, 1.55, 1.2, 1.55)
    ]
    assert len(set(sizes[1:4])) == 1


def coarse(picture: Floats) -> Floats:
    return picture.reshape(3, SIZE // 2, 2, SIZE // 2, 2).mean(axis=(2, 4))


def rows(*pictures: Floats, shift: Floats | None = None, crop: Crop | None = None) -> tuple[int, int]:
    """Those that an edit needs, of pictures with half the side."""
    crop = square(photo()) if crop is None else crop
    return Difference().rows([coarse(one) for one in pictures], crop, shift)


def test_only_the_rows_of_an_edit_are_worth_finer_pictures() -> None:
    first, end = rows(picture(), bearded(rows=slice(70, 100)))
    assert 28 <= first <= 34
    assert 51 <= end <= 57
    weak = picture().copy()
    weak[:, 20:30] += 0.02  # a leak
    assert rows(picture(), picture()) == (0, 0)
    assert rows(picture(), weak) == (0, 0)
    hair = picture().copy()
    hair[:, :40] -= 0.8
    first, end = rows(picture(), hair)
    assert first <= 1
    assert 20 <= end <= 26


def test_looks_are_told_from_what_has_moved() -> None:
    moved, far = bearded(rows=slice(70, 100)), shift_of(tuple(range(N_POINTS)), (0.05, 0.0))
    assert rows(picture(), moved, shift=far) == (0, 0)  # two pictures: all of it is movement
    assert rows(picture(), moved)[1] > 50  # all of it is looks
    both = moved.copy()
    both[:, 34:50, 48:80] -= 0.5
    first, end = rows(picture(), moved, both, shift=far)
    assert 12 <= first <= 16
    assert 25 <= end <= 30
    first, end = rows(picture(), moved, shift=0.02 * far)  # next to nothing moves: what is left may be added
    assert 28 <= first <= 34
    assert 51 <= end <= 57


def test_rows_of_a_mouth_that_opens_are_worth_finer_pictures() -> None:
    crop = square(photo())
    landmarks = crop.landmarks.copy()
    turn = np.linspace(np.pi, -np.pi, len(LIPS))
    landmarks[list(LIPS), :2] = np.array([64.0, 82.0]) + 14 * np.stack([np.cos(turn), 0.5 * np.sin(turn)], 1)
    with_mouth = Crop(pixels=crop.pixels, matrix=crop.matrix, landmarks=landmarks)
    lower = tuple(p for p in LIPS if p in (146, 91, 181, 84, 17, 314, 405, 321, 375))
    first, end = rows(picture(), picture(), shift=shift_of(lower, (0.0, 0.03)), crop=with_mouth)
    assert 30 <= first <= 37
    assert 45 <= end <= 54
    assert rows(picture(), picture(), shift=shift_of(lower, (0.0, 0.001)), crop=with_mouth) == (0, 0)


def test_movement_far_below_the_largest_is_none() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(30, 98, (N_POINTS, 2))
    shift = np.full((N_POINTS, 2), 0.3)
    mouth = points[:, 1] > 80
    shift[mouth] = (0.0, 6.0)
    flow = flow_of(points, shift, SIZE, 32)
    assert flow[1, 22, 16] > 5
    assert not flow[:, 12, 16].any()
    assert not flow[:, [0, -1]].any()
    assert not flow[:, :, [0, -1]].any()
    assert flow_of(points, shift, SIZE, 32, leaks=True)[0, 12, 16] > 0.2


def round_face(filled: float) -> tuple[np.ndarray, np.ndarray]:
    """[468,2] px each: points over ``filled`` of the oval's disc; a head that goes up."""
    rng = np.random.default_rng(0)
    angle, reach = rng.uniform(0, 2 * np.pi, N_POINTS), 32 * np.sqrt(rng.uniform(0, filled, N_POINTS))
    oval = list(FACE_OVAL)
    angle[oval], reach[oval] = np.linspace(0, 2 * np.pi, len(oval), endpoint=False), 32
    points = 64 + np.stack([reach * np.sin(angle), -reach * np.cos(angle)], 1)
    return points, np.tile([0.0, -2.0], (N_POINTS, 1))


def test_hair_goes_along_with_the_head_and_stays_when_brows_rise() -> None:
    points, head = round_face(0.8)
    brows = head * (points[:, 1:] < 50)
    forehead, hair = (10, 16), (4, 16)  # cells; the oval's upper end is at 8
    for shift, follows in ((brows, False), (head, True), (0.1 * head, True)):
        flow, most = flow_of(points, shift, SIZE, 32), np.abs(shift).max()
        assert flow[1][forehead] < -0.8 * most
        assert flow[1][hair] < -0.3 * most if follows else not flow[1][hair]


def test_a_hand_stays_where_it_is_unless_the_whole_head_moves() -> None:
    points, head = round_face(1.0)
    mouth = head * ((points[:, 1:] > 76) & (np.abs(points[:, :1] - 64) < 16))
    agreement = np.ones((32, 32), np.float32)
    agreement[:, 16:] = 0  # a hand before the right half
    for shift, stays in ((mouth, True), (head, False)):
        left, right = flow_of(points, shift, SIZE, 32, agreement)[1][20, [14, 18]]
        assert left < -1
        assert right == 0 if stays else right < -1


def test_a_face_that_is_known_takes_less_of_a_new_error() -> None:
    error = np.full((3, 16, 16), 0.33, np.float32)
    nothing = np.zeros_like(error)
    face = np.ones((16, 16), np.float32)
    face[:, 12:] = 0
    agreement = Agreement()
    at_first = Agreement()(error, face, None)[8, 8]
    for _ in range(300):
        agreement(nothing, face, 1 / 30)
    later = [agreement(error, face, 1 / 30) for _ in range(8)][-1]
    assert later[8, 8] < 0.1 * at_first
    assert later[8, 14] > 0.6  # hair and wall never look quite as drawn


def test_an_error_that_is_usual_within_a_second_gives_way_to_nothing() -> None:
    """A face is known soon: brows that are drawn too pale must not count as a hand when it is."""
    face, error = np.ones((16, 16), np.float32), np.full((3, 16, 16), 0.27, np.float32)
    agreement = Agreement()
    runs = [agreement(error, face, 1 / 30 if k else None)[8, 8] for k in range(90)]
    assert min(runs) > 0.95


def test_what_varies_by_itself_is_not_taken_for_something_before_it() -> None:
    """Lids close and open; what comes before a calm place, no stronger, hides the edit."""
    face, blink = np.ones((16, 16), np.float32), np.zeros((3, 16, 16), np.float32)
    blink[:, :, :8] = 0.3
    both = blink.copy()
    both[:, :, 8:] = 0.3
    agreement = Agreement()
    for k in range(150):
        agreement(blink * (k % 10 < 3), face, 1 / 30 if k else None)
    lids, comes = [agreement(both, face, 1 / 30)[8, [3, 12]] for _ in range(3)][-1]
    assert comes < 0.1
    assert lids > comes + 0.5
