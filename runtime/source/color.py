"""Colors of decoded pictures: what a file states about them, and BGR that means what the file meant.

Standard dynamic range keeps its own numbers: matrix and range are applied, primaries and transfer are handed
on to the sink as tags. PQ and HLG (BT.2100) become BT.709: light is computed from the signal, mapped into
BT.709's primaries, its highlights rolled off above 3/4 of diffuse white, and coded again. More than 8 bits
are kept beside the 8 that networks see.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from ..types import Deep

# Numbers of ITU-T H.273
UNSPECIFIED = 2
BT709, BT2020 = 1, 9
PQ, HLG = 16, 18
FULL = 2  # AVCOL_RANGE_JPEG
FCC, BT470BG, SMPTE170M, SMPTE240M = 4, 5, 6, 7
BT2020_NCL, BT2020_CL = 9, 10

HD_LINES = 720  # untagged video is BT.709 from here on, BT.601 below, as players assume
SDR_WHITE_NITS = 203.0  # diffuse white in HDR (BT.2408)
PEAK_NITS = 1000.0  # where a file does not state what its brightest pixel is
KNEE = 0.75  # of SDR white; below it nothing is changed
LUT_SIZE = 49  # points along each axis of the table from HDR to SDR
# libswscale's flags: rounded, each chroma sample repeated, not interpolated, so that the sink's means of 2x2
# pixels give back what was read. With "full chroma", results of 48 bits are garbage in FFmpeg 8.1.
ROUNDED = 0x10 | 0x40000
SCALED = 0x2 | 0x40000  # pictures whose size changes midway

_SWS = {
    BT709: Colorspace.ITU709,
    FCC: Colorspace.FCC,
    BT470BG: Colorspace.ITU601,
    SMPTE170M: Colorspace.ITU601,
    SMPTE240M: Colorspace.SMPTE240M,
    BT2020_NCL: 9,  # SWS_CS_BT2020
    BT2020_CL: 9,
}


@dataclass(frozen=True, slots=True)
class Color:
    """What a file states about its colors, numbers of ITU-T H.273, and how many bits its channels have."""

    matrix: int = BT709
    primaries: int = BT709
    transfer: int = BT709
    full_range: bool = False
    bits: int = 8

    @property
    def hdr(self) -> str:
        """ "PQ", "HLG" or an empty text."""
        return {PQ: "PQ", HLG: "HLG"}.get(self.transfer, "")


def color_of(picture: Any, context: Any = None) -> Color:
    """As the picture says; what it leaves open as players assume. context: of its codec, for old PyAV."""
    components = picture.format.components
    is_rgb = picture.format.is_rgb
    matrix = picture.colorspace
    if is_rgb or matrix == 0:
        matrix = BT709  # pictures are written as YCbCr
    elif matrix not in _SWS:
        matrix = BT709 if picture.height >= HD_LINES else SMPTE170M
    return Color(
        matrix=matrix,
        primaries=_stated("color_primaries", picture, context),
        transfer=_stated("color_trc", picture, context),
        full_range=picture.color_range == FULL and not is_rgb,
        bits=max(component.bits for component in components) if components else 8,
    )


def _stated(what: str, picture: Any, context: Any) -> int:
    number = getattr(picture, what, None)  # since PyAV 17
    return int(number if number is not None else getattr(context, what, UNSPECIFIED))


def has_alpha(picture: Any) -> bool:
    """Whether its pixels, or the colors of its palette, carry alpha."""
    return picture.format.name == "pal8" or any(part.is_alpha for part in picture.format.components)


def is_transparent(picture: Any) -> bool:
    """Whether some pixel is not opaque."""
    return has_alpha(picture) and bool(picture.to_ndarray(format="bgra")[..., 3].min() < 255)


class ColorReader:
    """Pictures of one stream as BGR; keeps what conversions need from frame to frame."""

    def __init__(self, color: Color, size: tuple[int, int], peak_nits: float | None = None) -> None:
        self.color = color
        self._size = size
        self._to_bgr, self._to_wide = VideoReformatter(), VideoReformatter()
        self._transparent: bool | None = None
        self._darker: bool | None = None
        self._spare: Any = None
        self._inner: Any = None
        self._peak_nits = peak_nits or PEAK_NITS
        self._tone: Graph | None = None

    def __call__(self, picture: Any) -> tuple[NDArray[np.uint8], Deep | None]:
        """BGR uint8 [H,W,3], and the same with 16 bits where the file has more than 8."""
        matrix = picture.colorspace
        conversion: dict[str, Any] = {
            "width": self._size[0],  # a stream may change its size midway; the frames do not
            "height": self._size[1],
            "src_colorspace": None if matrix in _SWS or picture.format.is_rgb else _SWS[self.color.matrix],
        }
        if self._transparent is None:
            self._transparent = has_alpha(picture) and not self.color.hdr
        if self.color.bits <= 8 and not self.color.hdr and not self._transparent:
            image: Any = self._to_bgr.reformat(picture, format="bgr24", **conversion).to_ndarray()
            if self._darker is None:
                self._darker = darkening(picture.format.name, self.color.matrix, self.color.full_range)
            if self._darker:
                self._lighten(image)
            return image, None
        if self._transparent:
            return self._on_black(picture, conversion)
        same_size = (picture.width, picture.height) == self._size
        conversion["interpolation"] = ROUNDED if same_size else SCALED
        if self.color.hdr:
            wide = self._to_wide.reformat(picture, format="gbrp16le", **conversion)
            picture, conversion = self._mapped(wide), {"interpolation": ROUNDED}
        pixels: Any = self._to_bgr.reformat(picture, format="bgr48le", **conversion).to_ndarray()
        deep = Deep.of(pixels)
        return deep.image, deep

    def _on_black(self, picture: Any, conversion: dict[str, Any]) -> tuple[NDArray[np.uint8], Deep | None]:
        """What is transparent shows black, as players show it, not what is hidden under it."""
        deep = self.color.bits > 8
        pixels: Any = self._to_wide.reformat(
            picture, format="rgba64le" if deep else "bgra", **conversion
        ).to_ndarray()
        most = 65535 if deep else 255
        # Rounded up, so that what is opaque stays what it is.
        shown = (pixels[..., :3].astype(np.uint32) * pixels[..., 3:] + most - 1) // most
        if not deep:
            return shown.astype(np.uint8), None
        whole = Deep.of(np.ascontiguousarray(shown[..., ::-1]).astype(np.uint16))
        return whole.image, whole

    def _lighten(self, image: NDArray[np.uint8]) -> None:
        """One level more, but for black and white, which are exact; in place, 0.8 ms for 1920x1080."""
        if self._spare is None or self._spare.shape != image.shape:
            self._spare = np.empty_like(image)
            self._inner = np.empty(image.shape, bool)
        np.subtract(image, 1, out=self._spare)  # 0 becomes 255
        np.less(self._spare, 254, out=self._inner)
        np.add(image, self._inner.view(np.uint8), out=image)

    def _mapped(self, picture: Any) -> Any:
        if self._tone is None:
            self._tone = _tone_graph(picture, self.color, self._peak_nits)
        self._tone.push(picture)
        return self._tone.pull()


@cache
def darkening(pixel_format: str, matrix: int, full_range: bool) -> bool:
    """Whether libswscale's fast way to BGR is a level too dark: on x86 it cuts fractions off three times."""
    if VideoFormat(pixel_format).is_rgb:
        return False
    cells = np.random.default_rng(0).integers(64, 192, (4, 4, 3), np.uint8)
    sample = np.kron(cells, np.ones((8, 8, 1), np.uint8))
    picture = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(sample, format="bgr24"),
        format=pixel_format,
        dst_colorspace=_SWS[matrix],
        dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        interpolation=ROUNDED,
    )
    exact = VideoReformatter().reformat(picture, format="bgr48le", interpolation=ROUNDED).to_ndarray()
    fast = VideoReformatter().reformat(picture, format="bgr24").to_ndarray()
    return bool((exact / 256 - fast).mean() > 0.5)


def _tone_graph(picture: Any, color: Color, peak_nits: float) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
    )
    with tempfile.TemporaryDirectory(prefix="doppelgan-") as folder:
        table = Path(folder) / "tone.cube"  # read when the graph is made
        table.write_text(cube(color.transfer, color.primaries, peak_nits))
        lut = graph.add("lut3d", file=str(table), interp="tetrahedral")
        graph.link_nodes(source, lut, graph.add("buffersink")).configure()
    return graph


@cache
def cube(transfer: int, primaries: int, peak_nits: float) -> str:
    """The table from HDR signal to SDR signal as a .cube file (Adobe Cube LUT 1.0): red runs fastest."""
    axis = np.linspace(0, 1, LUT_SIZE) * (65535 / Deep.WHITE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    signal = np.stack([red, green, blue], -1).reshape(-1, 3)
    sdr = to_sdr(signal, transfer, primaries, peak_nits) * (Deep.WHITE / 65535)
    rows = "\n".join(f"{red:.6f} {green:.6f} {blue:.6f}" for red, green, blue in sdr.tolist())
    return f"LUT_3D_SIZE {LUT_SIZE}\n{rows}\n"


def to_sdr(
    signal: NDArray[np.float64],  # [...,3] RGB 0..1, PQ or HLG
    transfer: int,
    primaries: int = BT2020,
    peak_nits: float = PEAK_NITS,  # of the brightest pixel
) -> NDArray[np.float64]:
    """[...,3] RGB 0..1, BT.709 primaries, for a display of gamma 2.4 (BT.1886) and diffuse white at 1."""
    nits = pq_nits(signal) if transfer == PQ else hlg_nits(signal)
    light = nits / SDR_WHITE_NITS
    if primaries == BT2020:
        light = light @ BT2020_TO_BT709.T
    brightest = light.max(-1, keepdims=True)
    rolled = roll_off(brightest, max(peak_nits / SDR_WHITE_NITS, 1.0))
    light = light * np.divide(rolled, brightest, out=np.ones_like(brightest), where=brightest > 0)
    return np.asarray(np.clip(light, 0, 1) ** (1 / 2.4))


# Linear light, BT.2020 to BT.709 (ITU-R BT.2087, inverse)
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)


def pq_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084: signal 0..1 to cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = np.clip(signal, 0, 1) ** (1 / m2)
    return np.asarray(10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def hlg_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """BT.2100 HLG [...,3] on a display of 1000 cd/m2: inverse OETF, then a gamma of 1.2 on luminance."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0, 1)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return np.asarray(1000 * scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2)


def roll_off(light: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Light, 1 = SDR white: unchanged up to KNEE, then along a hyperbola that brings ``peak`` to 1."""
    if peak <= 1:
        return light
    j = KNEE
    a = -(j**2) * (peak - 1) / (j**2 - 2 * j + peak)
    b = (j**2 - 2 * j * peak + peak) / (peak - 1)
    above = np.maximum(light, j)  # below, the hyperbola has its pole
    bent = (b**2 + 2 * b * j + j**2) / (b - a) * (above + a) / (above + b)
    return np.where(light <= j, light, bent)
