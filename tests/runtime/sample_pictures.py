"""Pictures that the tests of picture files make: a photo, colors in other spaces, a cutout."""

from __future__ import annotations

import cv2
import numpy as np
from doppelgan.runtime.pictures.files import WRITABLE
from doppelgan.runtime.types import Image

LOSSLESS = sorted(WRITABLE - {".jpg", ".jpeg", ".webp"})


def photo() -> Image:
    """Smooth, with every color: 60x80."""
    noise = np.random.default_rng(2).normal(size=(60, 80, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 3) * 500 + 128, 0, 255).astype(np.uint8)


def icc(primaries: list[tuple[float, float]], gamma: float, space: bytes = b"RGB ") -> bytes:
    """A matrix and gamma profile; primaries as xy of red, green, blue for a D65 white."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    white, d50 = xyz(0.3127, 0.3290), np.array([0.9642, 1.0, 0.8249])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    columns = np.stack([xyz(*p) for p in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, white)
    adapt = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ white)) @ bradford
    columns = adapt @ columns

    def number(value: float) -> bytes:
        return round(value * 65536).to_bytes(4, "big", signed=True)

    def position(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + int(gamma * 256).to_bytes(2, "big") + b"\0\0"
    title = b"test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + len(title).to_bytes(4, "big") + title + bytes(79),
        b"wtpt": position(d50),
    }
    if space == b"RGB ":
        for name, column in zip("rgb", columns.T, strict=True):
            tags[f"{name}XYZ".encode()], tags[f"{name}TRC".encode()] = position(column), curve
    else:
        tags[b"kTRC"] = curve
    table, content = len(tags).to_bytes(4, "big"), b""
    first = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + (first + len(content)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        content += data
    header = bytearray(128)
    header[0:4] = (first + len(content)).to_bytes(4, "big")
    header[8:12], header[12:16], header[16:20], header[20:24] = b"\x02\x10\0\0", b"mntr", space, b"XYZ "
    header[36:40], header[68:80] = b"acsp", b"".join(map(number, d50))
    return bytes(header) + table + content


SRGB = [(0.64, 0.33), (0.30, 0.60), (0.15, 0.06)]


P3 = [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)]


ADOBE = [(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)]


def colors() -> Image:
    """Well within sRGB, so that other spaces can hold it: 64x64, smooth."""
    rows, columns = np.mgrid[:64, :64]
    return np.stack([60 + 2 * rows, 100 + rows, 60 + 2 * columns], axis=-1).astype(np.uint8)


def in_space(image: Image, primaries: list[tuple[float, float]], gamma: float) -> Image:
    """sRGB BGR -> numbers of another space, by the definitions of both."""

    def matrix(points: list[tuple[float, float]]) -> np.ndarray:
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in points]).T
        return columns * np.linalg.solve(columns, white)

    value = image[..., ::-1] / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    other = linear @ (np.linalg.inv(matrix(primaries)) @ matrix(SRGB)).T
    return (np.clip(other, 0, 1) ** (1 / gamma) * 255 + 0.5).astype(np.uint8)[..., ::-1].copy()


def cutout() -> tuple[Image, np.ndarray]:
    """BGR with magenta hidden under transparency, and alpha."""
    image, alpha = photo(), np.full((60, 80), 255, np.uint8)
    alpha[:, :30], alpha[:, 30:40] = 0, 100
    image[alpha == 0] = (255, 0, 255)
    return image, alpha
