"""The synthesized square back into the frame, in each mode."""

from __future__ import annotations

import numpy as np
import pytest
from doppelgan.runtime.align import align
from doppelgan.runtime.composite import Compositor, match_colors, paste
from doppelgan.runtime.face_mesh import FACE_OVAL, LEFT_EYE, MOUTH_CORNERS, N_POINTS, RIGHT_EYE
from doppelgan.runtime.types import Crop, Face, Floats, Image

WIDTH, HEIGHT = 320, 240
CENTER = np.array([160.0, 110.0])


def make_face(roll_deg: float = 0.0, center: tuple[float, float] = (160, 110), scale: float = 1.0) -> Face:
    """A schematic face: an elliptic contour, eyes and mouth where a person has them."""
    points = np.zeros((N_POINTS, 2))
    around = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    points[list(FACE_OVAL)] = np.stack([36 * np.sin(around), 8 - 48 * np.cos(around)], axis=1)
    points[list(RIGHT_EYE)], points[list(LEFT_EYE)] = (-16, -8), (16, -8)
    points[MOUTH_CORNERS[0]], points[MOUTH_CORNERS[1]] = (-12, 28), (12, 28)
    angle = np.deg2rad(roll_deg)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = np.zeros((N_POINTS, 3), np.float32)
    landmarks[:, :2] = points @ rotation.T + center
    return Face(id=0, landmarks=landmarks, score=1.0)


def make_frame() -> Image:
    """Skin-colored noise."""
    rng = np.random.default_rng(0)
    return np.clip(rng.normal((120, 140, 180), 12, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def picture_of(color: tuple[float, float, float], size: int = 96, spread: float = 0.1) -> Floats:
    rng = np.random.default_rng(1)
    return (np.array(color)[:, None, None] + rng.normal(0, spread, (3, size, size))).astype(np.float32)


def in_frame(crop: Crop, column: float, row: float) -> tuple[int, int]:
    """Frame (x, y) of a point of the square, both as shares of its side."""
    x, y = crop.matrix @ (column * crop.size - 0.5, row * crop.size - 0.5, 1)
    return round(x), round(y)


def composed(
    mode: str,
    picture: Floats,
    face: Face | None = None,
    **options: bool,
) -> tuple[Image, Image, Crop]:
    face = face or make_face()
    frame = make_frame()
    crop = align(frame, face, 128)
    return Compositor(mode, **options).apply(frame.copy(), picture, crop, face), frame, crop


BLUE = (-0.9, -0.9, 0.9)


class TestFace:
    def test_draws_inside_the_contour_and_little_around_it(self) -> None:
        result, frame, crop = composed("face", picture_of(BLUE), color_match=False)
        x, y = in_frame(crop, 0.5, 0.55)
        assert result[y, x, 0] > 200
        assert result[y, x, 2] < 60
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
        outside = ((columns - 160) / (36 + 5)) ** 2 + ((rows - 118) / (48 + 5)) ** 2 > 1
        np.testing.assert_array_equal(result[outside], frame[outside])

    def test_edge_is_soft(self) -> None:
        result, frame, crop = composed("face", picture_of((1, 1, 1), spread=0), color_match=False)
        _, y = in_frame(crop, 0.5, 0.55)
        change = (result[y].astype(float) - frame[y]).sum(axis=1) / (255.0 - frame[y]).sum(axis=1)
        rising = change[: round(CENTER[0])]
        assert np.diff(rising).max() < 0.2  # no step
        assert rising[-1] > 0.95

    @pytest.mark.parametrize("roll_deg", [-40, 25, 90])
    def test_turns_with_the_head(self, roll_deg: float) -> None:
        result, frame, _ = composed("face", picture_of(BLUE), make_face(roll_deg), color_match=False)
        changed = np.argwhere((result != frame).any(axis=2))[:, ::-1] - CENTER
        angle = np.deg2rad(roll_deg)
        across, along = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
        assert np.ptp(changed @ across) == pytest.approx(2 * 36, abs=9)
        assert np.ptp(changed @ along) == pytest.approx(2 * 48, abs=9)

    def test_works_where_the_face_leaves_the_frame(self) -> None:
        result, _, _ = composed("face", picture_of(BLUE), make_face(center=(0, 5)), color_match=False)
        assert result[5, 2, 0] > 200

    def test_takes_a_picture_of_any_size(self) -> None:
        small, _, _ = composed("face", picture_of(BLUE, size=32, spread=0), color_match=False)
        large, _, _ = composed("face", picture_of(BLUE, size=512, spread=0), color_match=False)
        assert np.abs(small.astype(int) - large).max() <= 12


class TestColorMatch:
    def test_takes_on_the_persons_colors(self) -> None:
        result, frame, crop = composed("face", picture_of((-0.2, 0.1, 0.2)))
        x, y = in_frame(crop, 0.5, 0.55)
        patch = np.s_[y - 8 : y + 9, x - 8 : x + 9]
        np.testing.assert_allclose(result[patch].mean((0, 1)), frame[patch].mean((0, 1)), atol=4)

    def test_of_equal_pictures_changes_nothing(self) -> None:
        face, frame = make_face(), make_frame()
        crop = align(frame, face, 128)
        gain, offset = match_colors(crop.pixels[0], crop)
        np.testing.assert_allclose(gain, 1, atol=1e-5)
        np.testing.assert_allclose(offset, 0, atol=1e-5)

    @pytest.mark.parametrize("keep_black", [False, True])
    def test_stays_within_limits(self, keep_black: bool) -> None:
        face, frame = make_face(), make_frame()
        crop = align(frame, face, 128)
        gain, offset = match_colors(picture_of((-1, -1, -1), spread=0), crop, keep_black)
        assert np.isfinite(gain).all()
        assert np.isfinite(offset).all()
        assert gain.max() <= 1.4

    def test_of_a_head_keeps_black_black(self) -> None:
        face, frame = make_face(), make_frame()
        crop = align(frame, face, 128)
        gain, offset = match_colors(picture_of((0.1, 0.1, 0.1)), crop, keep_black=True)
        np.testing.assert_allclose(-gain + offset, -1, atol=1e-6)

    def test_is_steadied_over_time_and_forgotten_on_reset(self) -> None:
        face, frame = make_face(), make_frame()
        crop, dark = align(frame, face, 128), align(frame // 2, face, 128)
        picture = picture_of((0.3, 0.3, 0.3))
        compositor = Compositor("face")
        x, y = in_frame(crop, 0.5, 0.55)

        def brightness(crop: Crop) -> float:
            result = compositor.apply(frame.copy(), picture, crop, face)
            return float(result[y - 5 : y + 6, x - 5 : x + 6].mean())

        before = brightness(crop)
        one_later = brightness(dark)
        compositor.reset()
        settled = brightness(dark)
        assert settled < before - 30
        assert before - one_later == pytest.approx(0.15 * (before - settled), abs=3)


class TestHead:
    def test_reaches_further_than_the_face_but_not_over_the_square(self) -> None:
        result, frame, crop = composed("head", picture_of(BLUE), color_match=False)
        face_result, _, _ = composed("face", picture_of(BLUE), color_match=False)
        changed = (result != frame).any(axis=2)
        assert changed.sum() > 1.5 * (face_result != frame).any(axis=2).sum()
        x0, y0 = in_frame(crop, 0, 0)
        x1, y1 = in_frame(crop, 1, 1)
        inside = np.zeros_like(changed)
        inside[max(y0, 0) : y1 + 1, x0 : x1 + 1] = True
        assert not (changed & ~inside).any()

    def test_covers_hair_above_the_face(self) -> None:
        result, _, crop = composed("head", picture_of(BLUE), color_match=False)
        x, y = in_frame(crop, 0.5, 0.16)
        assert result[y, x, 0] > 180


class TestReplace:
    def test_leaves_nothing_of_the_frame(self) -> None:
        face = make_face()
        white, black = np.full((HEIGHT, WIDTH, 3), 255, np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture = picture_of((0.2, -0.1, 0.4))
        for_white, for_black = (align(frame, face, 64) for frame in (white, black))
        Compositor("replace").apply(white, picture, for_white, face)
        Compositor("replace").apply(black, picture, for_black, face)
        np.testing.assert_array_equal(white, black)

    def test_extends_the_pictures_border_over_the_frame(self) -> None:
        result, _, _ = composed("replace", picture_of((0.2, -0.1, 0.4), spread=0))
        color = (np.array((0.4, -0.1, 0.2)) + 1) * 127.5
        assert np.abs(result - color).max() <= 2

    @pytest.mark.parametrize("roll_deg", [0, 20, -35])
    def test_tilts_with_the_person(self, roll_deg: float) -> None:
        picture = picture_of((-1, -1, -1), size=128, spread=0)
        picture[:, 30:40, 60:68] = 1  # a light above the middle
        result, _, _ = composed("replace", picture, make_face(roll_deg))
        weight = result.astype(float).sum(axis=2)
        weight[weight < 300] = 0
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
        seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        up = seen - [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
        assert np.rad2deg(np.arctan2(up[0], -up[1])) == pytest.approx(roll_deg, abs=1)

    def test_keeps_the_whole_width_of_the_head_in_upright_frames(self) -> None:
        frame, face = np.zeros((400, 200, 3), np.uint8), make_face(center=(100, 150))
        picture = picture_of((-1, -1, -1), size=128, spread=0)
        picture[:, :, 16:20] = picture[:, :, 108:112] = 1  # where ears are
        result = Compositor("replace").apply(frame.copy(), picture, align(frame, face, 64), face)
        bright = np.flatnonzero(result[200].max(axis=1) > 128)
        assert bright.min() < 20
        assert bright.max() > 180

    def test_surroundings_are_smooth(self) -> None:
        picture = np.zeros((3, 96, 96), np.float32)
        picture[:, :, 48:] = 0.8  # a hard line up to the top of the head, which points to the right
        frame = np.zeros((HEIGHT, 3 * WIDTH, 3), np.uint8)
        face = make_face(90, center=(1.5 * WIDTH, 110))
        result = Compositor("replace").apply(frame, picture, align(frame, face, 64), face)
        beside = result[:, -20].astype(int)
        assert np.ptp(beside) > 90
        assert np.abs(np.diff(beside, axis=0)).max() <= 5
        assert np.abs(np.diff(beside, 2, axis=0)).max() <= 3

    def test_draws_the_same_frame_after_frame(self) -> None:
        face, compositor, picture = make_face(), Compositor("replace"), picture_of((0.2, -0.1, 0.4))
        crop = align(make_frame(), face, 64)
        first, second = (compositor.apply(make_frame(), picture, crop, face) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_moves_as_the_head_does_and_returns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the same share of the square, so that a neck drawn in it stays; not for good, nor too far."""
        monkeypatch.setattr(paste, "USUAL", 0.9)  # of 0.992: returns within seconds of test
        compositor, picture = Compositor("replace"), picture_of((-1, -1, -1), size=128, spread=0)
        picture[:, 60:68, 60:68] = 1

        side = 0.0

        def light(dx: float, dy: float) -> np.ndarray:
            face = make_face(center=(160 + dx, 120 + dy))
            frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            crop = align(frame, face, 64)
            nonlocal side
            side = 64 * float(np.hypot(*crop.matrix[:, 0]))
            result = compositor.apply(frame, picture, crop, face).astype(float).sum(axis=2)
            result[result < 300] = 0
            rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
            return np.array([(result * columns).sum(), (result * rows).sum()]) / result.sum()

        still = light(0, 0)
        moved = light(8, -4) - still
        share = np.array([8, -4]) / side
        np.testing.assert_allclose(moved / HEIGHT, share * 0.9, atol=0.004)
        for _ in range(60):
            last = light(8, -4)
        np.testing.assert_allclose(last, still, atol=0.5)
        far = light(8 + 0.5 * side, -4) - still
        assert far[0] / HEIGHT == pytest.approx(0.15, abs=0.01)
        compositor.reset()
        np.testing.assert_allclose(light(40, 20), still, atol=0.5)

    def test_hair_at_the_picture_s_side_does_not_run_on_as_a_band(self) -> None:
        picture = picture_of((0.0, 0.0, 0.0), spread=0)
        picture[:, 30:, :14] = np.array((0.9, -0.9, -0.9))[:, None, None]
        frame = np.zeros((120, 400, 3), np.uint8)
        face = make_face(center=(200, 60), scale=0.5)
        result = Compositor("replace").apply(frame, picture, align(frame, face, 64), face)
        assert np.abs(result[60:, :90].astype(int) - 127).max() < 10
        assert int(result[80, 155, 2]) - int(result[80, 155, 0]) > 60  # but the hair itself is there


class TestContract:
    @pytest.mark.parametrize("mode", ["face", "head", "replace"])
    def test_draws_into_the_frame_it_is_given(self, mode: str) -> None:
        face, frame = make_face(), make_frame()
        crop = align(frame, face, 64)
        before = frame.copy()
        assert Compositor(mode).apply(frame, picture_of(BLUE), crop, face) is frame
        assert (frame != before).any()

    def test_refuses_an_unknown_mode(self) -> None:
        with pytest.raises(ValueError, match="expected one of face, head, replace, got 'body'"):
            Compositor("body")

    @pytest.mark.parametrize("feather", [0, -1, 0.3])
    def test_refuses_a_feather_out_of_range(self, feather: float) -> None:
        with pytest.raises(ValueError, match="feather: expected"):
            Compositor("face", feather=feather)

    def test_refuses_pictures_that_are_not_square_planes(self) -> None:
        face, frame = make_face(), make_frame()
        with pytest.raises(ValueError, match=r"picture: expected RGB float32 \[3,R,R\], got \[1, 3, 8, 8\]"):
            Compositor("face").apply(frame, np.zeros((1, 3, 8, 8), np.float32), align(frame, face, 64), face)
