"""Colors of video files: what is not edited comes out as it went in, high dynamic range as it looked."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from doppelgan.runtime.sink.video import bgr_to_yuv
from doppelgan.runtime.source import SourceWarning, open_source
from doppelgan.runtime.source.color import (
    BT2020_TO_BT709,
    HLG,
    PQ,
    Color,
    darkening,
    hlg_nits,
    pq_nits,
    roll_off,
    to_sdr,
)
from doppelgan.runtime.types import Deep, Frame

from .media import Pictures, copy, write_media

SIZE = (96, 64)


def colorful(size: tuple[int, int] = SIZE) -> Any:
    """Moderate colors in cells of 16x16, BGR uint8."""
    cells = np.random.default_rng(3).integers(60, 200, (size[1] // 16, size[0] // 16, 3), np.uint8)
    return np.kron(cells, np.ones((16, 16, 1), np.uint8))


def clip(path: Path, image: Any, **described: Any) -> Path:
    options = {"crf": "1", "preset": "ultrafast"}
    described = {"options": options, "size": (image.shape[1], image.shape[0]), **described}
    return write_media(path, Pictures(images=[image] * 4, frames=4, **described))


def tags(path: Path) -> tuple[int, int, int, int, str]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return (
            context.colorspace,
            context.color_primaries,
            context.color_trc,
            context.color_range,
            context.pix_fmt,
        )


def planes(path: Path) -> Any:
    """Y, U, V of the first picture as stored, one row."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray().astype(int)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "primaries", "transfer"), [(1, 1, 1), (6, 6, 6), (5, 5, 4), (9, 9, 14), (7, 7, 7)]
)
def test_numbers_and_tags_stay(
    tmp_path: Path, matrix: int, primaries: int, transfer: int, full: bool
) -> None:
    described = {
        "colorspace": matrix, "color_primaries": primaries, "color_trc": transfer, "color_range": 1 + full
    }  # fmt: skip
    path = clip(tmp_path / "in.mp4", colorful(), tags=described)

    copy(path, tmp_path / "out.mp4", crf=1)

    assert tags(tmp_path / "out.mp4")[:4] == (matrix, primaries, transfer, 1 + full)
    off = planes(tmp_path / "out.mp4") - planes(path)
    assert abs(off.mean()) < 0.3
    assert np.abs(off).max() <= 2


@pytest.mark.parametrize("form", ["yuv420p", "yuv422p", "yuv444p", "gray"])
def test_what_is_not_edited_is_neither_darker_nor_brighter(tmp_path: Path, form: str) -> None:
    image = colorful()
    if form == "gray":
        image[:] = image[..., 1:2]
    path = clip(tmp_path / "in.mkv", image, pixel_format=form, codec="ffv1", options={})
    with open_source(path) as source:
        read = next(source).image.astype(int)
    assert np.abs((read - image).mean((0, 1))).max() < 0.5
    with open_source(copy(path, tmp_path / "out.mp4", crf=1)) as after:
        again = next(after).image.astype(int)
    assert np.abs((again - read).mean((0, 1))).max() < 0.75


def test_black_and_white_stay_black_and_white(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 255
    with open_source(clip(tmp_path / "in.mkv", image, codec="ffv1", options={})) as source:
        read = next(source).image
    assert (read[:, :30] == 0).all()
    assert (read[:, 34:] == 255).all()


def test_rgb_files_are_not_lightened() -> None:
    assert not darkening("bgr24", 1, False)


# More than eight bits


def ramp(bits: int = 16) -> Any:
    """A slope so flat that 8 bits show it as steps, BGR uint16."""
    row = np.linspace(100 * 256, 108 * 256, 96)
    return np.repeat(np.broadcast_to(row[None, :, None], (64, 96, 3)), 1, 2).astype(np.uint16)


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [(".mp4", "hevc", "yuv420p10le"), (".mov", "hevc", "yuv420p10le"), (".mkv", "hevc", "yuv420p10le")],
)
def test_ten_bits_stay_ten_bits(tmp_path: Path, suffix: str, codec: str, form: str) -> None:
    path = clip(tmp_path / "in.mkv", ramp(), pixel_format="yuv420p10le", codec="ffv1", options={})
    copy(path, tmp_path / f"out{suffix}", crf=1)

    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.video[0].codec_context.name == codec
    assert tags(tmp_path / f"out{suffix}")[4] == form
    luma = planes(tmp_path / f"out{suffix}")[:64]
    assert len(np.unique(luma)) > 20  # 8 bits: 8 levels
    assert np.abs(luma - planes(path)[:64]).mean() < 1.5


def test_a_codec_of_eight_bits_gets_eight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    path = clip(tmp_path / "in.mkv", ramp(), pixel_format="yuv420p10le", codec="ffv1", options={})
    assert tags(copy(path, tmp_path / "out.mp4"))[4] == "yuv420p"


def test_an_edit_moves_deep_pixels_and_leaves_the_others(tmp_path: Path) -> None:
    deep = Deep.of(ramp())
    image = deep.image.copy()
    image[:10] += 5

    edited = deep.edited(image)

    assert (edited[10:] == deep.pixels[10:]).all()
    assert (edited[:10] - deep.pixels[:10] == 5 * 256).all()
    assert (Deep.of(edited).image == image).all()


def test_a_small_deep_picture_is_written_in_h264(tmp_path: Path) -> None:
    path = clip(tmp_path / "in.mkv", ramp()[:32, :48], pixel_format="yuv420p10le", codec="ffv1", options={})
    assert tags(copy(path, tmp_path / "out.mp4"))[4] == "yuv420p10le"


# High dynamic range


def test_the_curves_are_those_of_the_standards() -> None:
    assert pq_nits(np.array([0.0, 0.5081, 0.5806, 0.7518, 1.0])) == pytest.approx(
        [0, 100, 203, 1000, 10000], rel=2e-3
    )
    gray = np.array([[0.0] * 3, [0.5] * 3, [0.75] * 3, [1.0] * 3])
    assert hlg_nits(gray)[:, 0] == pytest.approx([0, 50.7, 203, 1000], rel=3e-3)
    assert BT2020_TO_BT709 @ np.ones(3) == pytest.approx(np.ones(3), abs=1e-3)


def test_highlights_roll_off_and_the_rest_stays() -> None:
    light = np.linspace(0, 5, 101)
    rolled = roll_off(light, 5.0)
    assert (np.diff(rolled) > 0).all()
    assert (rolled[light <= 0.75] == light[light <= 0.75]).all()
    assert rolled[-1] == pytest.approx(1)
    assert roll_off(light, 1.0) is light


def hdr_clip(path: Path, image: Any, transfer: int) -> Path:
    """What an SDR picture becomes when it is coded as PQ or HLG with white at 203 cd/m2 (BT.2408)."""
    light = (image / 255.0)[..., ::-1] ** 2.4 @ np.linalg.inv(BT2020_TO_BT709).T
    nits = 203 * np.clip(light, 0, 1)
    if transfer == PQ:
        grid = np.linspace(0, 1, 20001)
        signal = np.interp(nits, pq_nits(grid), grid)
    else:
        luminance = nits @ np.array([0.2627, 0.6780, 0.0593])
        scene = nits / 1000 * np.maximum(luminance / 1000, 1e-9)[..., None] ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        bright = a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    deep = np.ascontiguousarray((signal[..., ::-1] * Deep.WHITE).astype(np.uint16))
    described = {"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1}
    return clip(path, deep, pixel_format="yuv420p10le", codec="ffv1", options={}, tags=described)


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_high_dynamic_range_comes_out_as_it_looked(tmp_path: Path, transfer: int, name: str) -> None:
    image = colorful()
    path = hdr_clip(tmp_path / "in.mkv", image, transfer)

    with pytest.warns(SourceWarning, match=rf"high dynamic range \({name}\) is converted to BT\.709"):
        copy(path, tmp_path / "out.mp4", crf=1)

    assert tags(tmp_path / "out.mp4")[:4] == (1, 1, 1, 1)
    with open_source(tmp_path / "out.mp4") as after:
        read = next(after).image.astype(int)
    inside = np.kron(np.ones((4, 6)), np.pad(np.ones((8, 8)), 4)).astype(bool)
    assert np.abs((read - image)[inside]).mean() < 4


def test_a_stated_peak_is_believed() -> None:
    """What is 400 cd/m2 at most keeps more of its highlights apart than what may be 1000."""
    signal = np.full((1, 3), 0.65)  # 391 cd/m2
    assert to_sdr(signal, PQ, 9, 400.0).min() > to_sdr(signal, PQ, 9, 4000.0).min()


def test_the_case_at_hand(shared: Path) -> None:
    folder = shared / "cases" / "hdr-video"
    from PIL import Image as Pillow

    original = np.asarray(Pillow.open(folder / "sdr-original-frame0.png").convert("RGB"))[..., ::-1]
    with pytest.warns(SourceWarning, match="PQ"), open_source(folder / "pq.mov") as source:
        off = next(source).image.astype(int) - original
    assert np.abs(off).mean() < 4
    assert np.abs(off.mean((0, 1))).max() < 4


# Interlaced


def interlaced(path: Path) -> Path:
    """A bar that moves between the two fields of each picture, coded as interlaced."""
    images = []
    for index in range(6):
        image = np.full((64, 96, 3), 40, np.uint8)
        for field in (0, 1):
            left = 10 + 6 * (2 * index + field)
            image[field::2, left : left + 12] = 220
        images.append(image)
    return write_media(
        path,
        Pictures(
            images=images, frames=6, size=(96, 64), codec="libx264",
            options={"crf": "4", "flags": "+ildct+ilme", "x264-params": "tff=1"},
        ),
    )  # fmt: skip


def combing(image: Any) -> float:
    """How much neighboring lines differ more than lines two apart."""
    rows = image[..., 0].astype(float)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


def test_interlaced_pictures_are_taken_apart(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "in.mp4")
    with av.open(str(path)) as container:
        woven = [p for p in container.decode(video=0) if p.interlaced_frame]
        assert len(woven) == 6
        before = combing(woven[2].to_ndarray(format="bgr24"))

    with (
        pytest.warns(SourceWarning, match="interlaced pictures are deinterlaced") as caught,
        open_source(path) as source,
    ):
        frames = list(source)
    assert [one.filename for one in caught] == [__file__]

    assert [frame.time_s for frame in frames] == [i / 25 for i in range(6)]
    assert combing(frames[2].image) < before / 4


def test_progressive_pictures_are_left_alone(tmp_path: Path) -> None:
    path = clip(tmp_path / "in.mp4", colorful())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(1 for _ in open_source(path)) == 4


# Writing


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
def test_the_conversion_follows_matrix_and_range(matrix: int, full: bool) -> None:
    image = colorful()
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    b, g, r = np.moveaxis(image / 255.0, -1, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    expected = 255 * luma if full else 16 + 219 * luma

    picture = bgr_to_yuv(
        image, "yuv420p", av.video.reformatter.VideoReformatter(), Color(matrix, full_range=full)
    )

    assert np.abs(picture.to_ndarray()[:64] - expected).max() < 0.8


def test_frames_carry_their_deep_pixels_through_editing(tmp_path: Path) -> None:
    path = clip(tmp_path / "in.mkv", ramp(), pixel_format="yuv420p10le", codec="ffv1", options={})
    with open_source(path) as source:
        frame = next(source)
    assert isinstance(frame, Frame)
    assert frame.deep is not None
    assert (frame.deep.image == frame.image).all()


# Transparency


@pytest.mark.parametrize(("form", "deep"), [("yuva420p", False), ("yuva444p10le", True), ("bgra", False)])
def test_what_is_hidden_under_transparency_stays_hidden(tmp_path: Path, form: str, deep: bool) -> None:
    image = np.zeros((64, 96, 4), np.uint8)
    image[:, :48] = (255, 0, 255, 0)  # magenta that nobody shall see
    image[:, 48:] = (40, 160, 90, 255)
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, form
        picture = av.VideoFrame.from_ndarray(image, format="bgra")
        container.mux(stream.encode(picture.reformat(format=form)))
        container.mux(stream.encode(None))

    with (
        pytest.warns(SourceWarning, match="what is transparent is shown on black") as caught,
        open_source(path) as source,
    ):
        frame = next(source)
    assert caught[0].filename == __file__

    assert frame.image[:, :44].max() <= 2
    assert np.abs(frame.image[:, 52:].astype(int) - (40, 160, 90)).max() <= 4
    assert (frame.deep is not None) == deep


def test_opaque_pictures_with_alpha_are_read_as_they_are_without_a_word(tmp_path: Path) -> None:
    image = colorful()
    path = clip(tmp_path / "in.mkv", image, pixel_format="bgra", codec="ffv1", options={})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_source(path) as source:
            assert (next(source).image == image).all()
