"""Makes renders look like frames of somebody's camera. Everything happens on the accelerator, in batches.

Pictures are float32 [n, 3, s, s] in -1..1; every function draws its own random numbers per picture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_MOUTH = (61, 291)


def _uniform(n: int, low: float, high: float, device: torch.device) -> Tensor:
    return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low


def _some(n: int, chance: float, device: torch.device) -> Tensor:
    return torch.rand(n, 1, 1, 1, device=device) < chance


def aligned_matrix(mesh: Tensor) -> Tensor:
    """The FFHQ square of a mesh: [n, 2, 3] maps crop units (0..1) to picture units, as live alignment does."""
    xy = mesh[..., :2]
    left, right = (
        xy[:, list(_RIGHT_EYE)].mean(1),
        xy[:, list(_LEFT_EYE)].mean(1),
    )  # the picture's left and right
    mouth = (xy[:, _MOUTH[0]] + xy[:, _MOUTH[1]]) / 2
    eyes, down = right - left, mouth - (left + right) / 2
    x = eyes - torch.stack([-down[:, 1], down[:, 0]], 1)
    x = F.normalize(x, dim=1) * torch.maximum(2 * eyes.norm(dim=1), 1.8 * down.norm(dim=1))[:, None]
    y = torch.stack([-x[:, 1], x[:, 0]], 1)
    corner = (left + right) / 2 + 0.1 * down - x - y
    return torch.stack([2 * x, 2 * y, corner], 2)


def jitter_matrix(n: int, shift: float, turn: float, zoom: float, device: torch.device) -> Tensor:
    """Small similarities [n, 2, 3] of the unit square about its center; standard deviations."""
    angle = torch.randn(n, device=device) * turn
    scale = torch.exp(torch.randn(n, device=device) * zoom)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    offset = 0.5 - linear @ torch.full((2,), 0.5, device=device) + torch.randn(n, 2, device=device) * shift
    return torch.cat([linear, offset[:, :, None]], 2)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """outer(inner(p)) for affine maps [n, 2, 3]."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    return torch.cat([linear, outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


def warp(pictures: Tensor, matrix: Tensor, mesh: Tensor) -> tuple[Tensor, Tensor]:
    """Crop with `matrix` (crop units -> picture units); the mesh goes along."""
    linear, offset = matrix[:, :, :2], matrix[:, :, 2]
    # From -1..1 to -1..1: 2 (A (g + 1) / 2 + b) - 1.
    theta = torch.cat([linear, (linear.sum(2) + 2 * offset - 1)[:, :, None]], 2)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    cropped = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    back = torch.linalg.inv(linear)
    xy = (mesh[..., :2] - offset[:, None]) @ back.transpose(1, 2)
    z = mesh[..., 2:] / linear[:, :, 0].norm(dim=1)[:, None, None]
    return cropped, torch.cat([xy, z], 2)


def jitter_mesh(mesh: Tensor) -> Tensor:
    """The landmark network's noise: all points a little together, each a little alone."""
    n = len(mesh)
    together = torch.randn(n, 1, 3, device=mesh.device) * torch.tensor([0.003, 0.003, 0.006], device=mesh.device)
    alone = torch.randn_like(mesh) * 0.0015 * torch.rand(n, 1, 1, device=mesh.device)
    return mesh + together + alone


def backgrounds(pictures: Tensor) -> Tensor:
    """Something behind the head: gradients, soft blobs, shelves of blocks, or another picture upside down."""
    n, _, s, _ = pictures.shape
    device = pictures.device
    plain = torch.rand(n, 3, 1, 1, device=device) * 2 - 1
    blobs = F.interpolate(torch.randn(n, 3, 4, 4, device=device), size=(s, s), mode="bilinear", align_corners=False)
    fine = torch.randn(n, 3, 16, 16, device=device)
    fine = torch.where(
        _some(n, 0.5, device),
        F.interpolate(fine, size=(s, s)),
        F.interpolate(fine, size=(s, s), mode="bilinear", align_corners=False),
    )
    mixed = plain + 0.5 * blobs + 0.3 * fine * _uniform(n, 0, 1, device)
    other = F.avg_pool2d(pictures.flip(0, 2), 8)
    other = F.interpolate(other, size=(s, s), mode="bilinear", align_corners=False)
    return torch.where(_some(n, 0.3, device), other, mixed).clamp(-1, 1)


def occlude(pictures: Tensor, chance: float = 0.15) -> Tensor:
    """A hand, a cup, a phone: a soft-edged ellipse of some color, rarely across the middle."""
    n, _, s, _ = pictures.shape
    device = pictures.device
    line = (torch.arange(s, device=device) + 0.5) / s
    angle = torch.rand(n, 1, 1, device=device) * 2 * math.pi
    far = 0.25 + 0.35 * torch.rand(n, 1, 1, device=device)
    x0, y0 = 0.5 + far * angle.cos(), 0.58 + far * angle.sin()
    a, b = (0.04 + 0.16 * torch.rand(n, 1, 1, device=device) for _ in range(2))
    tilt = torch.rand(n, 1, 1, device=device) * math.pi
    dx, dy = line[None, None, :] - x0, line[None, :, None] - y0
    u, v = dx * tilt.cos() + dy * tilt.sin(), -dx * tilt.sin() + dy * tilt.cos()
    inside = torch.sigmoid((1 - (u / a) ** 2 - (v / b) ** 2) * 12)[:, None]
    inside = inside * _some(n, chance, device)
    color = torch.rand(n, 3, 1, 1, device=device) * 1.8 - 0.9
    shade = color + 0.15 * F.interpolate(
        torch.randn(n, 1, 8, 8, device=device), size=(s, s), mode="bilinear", align_corners=False
    )
    return pictures * (1 - inside) + shade * inside


def colors(pictures: Tensor, truth: Tensor, strength: float = 1.0) -> tuple[Tensor, Tensor]:
    """Exposure, white balance, contrast, gamma, saturation, and light that falls off across the picture.

    `told` [n, 3, k]: what becomes of these colors in the middle of each picture.
    """
    n, _, s, _ = pictures.shape
    device = pictures.device
    line = torch.linspace(-1, 1, s, device=device)
    fall = (
        _uniform(n, -0.25, 0.25, device) * line[None, None, None, :] + _uniform(n, -0.2, 0.2, device) * line[None, None, :, None]
    )
    fall = strength * fall * _some(n, 0.4, device)
    gain = torch.exp(strength * (_uniform(n, -0.35, 0.3, device) + 0.05 * torch.randn(n, 3, 1, 1, device=device)))
    warm = (
        strength
        * 0.07
        * torch.randn(n, 1, 1, 1, device=device)
        * torch.tensor([1.0, 0.0, -1.0], device=device)[None, :, None, None]
    )
    gamma, contrast, saturation = (
        torch.exp(strength * _uniform(n, low, high, device)) for low, high in ((-0.3, 0.3), (-0.3, 0.25), (-0.5, 0.3))
    )
    middle: Tensor | None = None

    def seen(x: Tensor, fall: Tensor) -> Tensor:
        nonlocal middle
        x = ((x + 1) / 2).clamp(1e-4, 1) ** gamma * gain * (1 + warm) * torch.exp(fall)
        middle = x.mean((1, 2, 3), keepdim=True) if middle is None else middle
        x = (x - middle) * contrast + middle
        grey = (x * torch.tensor([0.299, 0.587, 0.114], device=device)[None, :, None, None]).sum(1, keepdim=True)
        return (grey + (x - grey) * saturation).clamp(0, 1) * 2 - 1

    return seen(pictures, fall), seen(truth[..., None], torch.zeros_like(gamma))[..., 0]


def blur(pictures: Tensor, chance: float = 0.4) -> Tensor:
    """Out of focus or moved: a Gaussian of up to 2 pixels along each axis."""
    n = len(pictures)
    device = pictures.device
    taps = torch.arange(-4, 5, device=device).float()
    result = pictures
    for axis in (2, 3):
        sigma = _uniform(n, 0.2, 2.0, device).flatten() * pictures.shape[-1] / 256
        kernel = torch.exp(-(taps[None] ** 2) / (2 * sigma[:, None] ** 2))
        kernel = kernel / kernel.sum(1, keepdim=True)
        shape = (n, 1, 9, 1) if axis == 2 else (n, 1, 1, 9)
        pad = (0, 0, 4, 4) if axis == 2 else (4, 4, 0, 0)
        flat = F.pad(result, pad, mode="reflect").transpose(0, 1)
        result = F.conv2d(flat, kernel.reshape(shape), groups=n).transpose(0, 1)
    return torch.where(_some(n, chance, device), result, pictures)


def low_resolution(pictures: Tensor, chance: float = 0.35) -> Tensor:
    """A small face in a big frame: the same factor for the whole batch, per-picture chance."""
    n, _, s, _ = pictures.shape
    small = int(s / (1.2 + 2.3 * float(torch.rand(()))))
    shrunk = F.interpolate(pictures, size=(small, small), mode="bilinear", antialias=True, align_corners=False)
    grown = F.interpolate(shrunk, size=(s, s), mode="bilinear", align_corners=False)
    return torch.where(_some(n, chance, pictures.device), grown, pictures)


def noise(pictures: Tensor) -> Tensor:
    """Sensor noise, fine and (as after compression) coarse."""
    n, _, s, _ = pictures.shape
    device = pictures.device
    fine = torch.randn_like(pictures) * _uniform(n, 0, 0.06, device) * _some(n, 0.5, device)
    coarse = (
        F.interpolate(torch.randn(n, 3, s // 2, s // 2, device=device), size=(s, s))
        * _uniform(n, 0, 0.04, device)
        * _some(n, 0.3, device)
    )
    return pictures + fine + coarse


_LUMINANCE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92], [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]).float()  # fmt: skip
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_TO_RGB = torch.linalg.inv(_TO_YCC)


def jpeg(pictures: Tensor, chance: float = 0.5) -> Tensor:
    """JPEG's blocks and ringing: 8x8 DCT, quantized, quality about 15 to 90; color differences at half size."""
    n, _, s, _ = pictures.shape
    device = pictures.device
    k = torch.arange(8, device=device).float()
    dct = torch.cos((2 * k[None, :] + 1) * k[:, None] * math.pi / 16) * 0.5
    dct[0] /= math.sqrt(2)
    ycc = torch.einsum("ij,njhw->nihw", _TO_YCC.to(device), pictures) * 127.5
    coarse = _uniform(n, 0.2, 1.0, device) ** 2 * 3.2  # multiplies the table for quality 50
    table = _LUMINANCE.to(device)

    def squeeze(x: Tensor, factor: float) -> Tensor:
        c, h = x.shape[1], x.shape[2]
        blocks = x.reshape(n, c, h // 8, 8, h // 8, 8).permute(0, 1, 2, 4, 3, 5)
        step = (table * factor * coarse[..., None, None]).clamp(min=1)
        coefficients = dct @ blocks @ dct.T
        blocks = dct.T @ (torch.round(coefficients / step) * step) @ dct
        return blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, h)

    light = squeeze(ycc[:, :1], 1.0)
    tint = F.interpolate(squeeze(F.avg_pool2d(ycc[:, 1:], 2), 1.3), size=(s, s), mode="bilinear", align_corners=False)
    rgb = torch.einsum("ij,njhw->nihw", _TO_RGB.to(device), torch.cat([light, tint], 1)) / 127.5
    return torch.where(_some(n, chance, device), rgb, pictures)


@torch.no_grad()
def camera(pictures: Tensor, truth: Tensor, clean: float = 0.25) -> tuple[Tensor, Tensor]:
    """The whole way of a picture through light, lens, sensor and codec; a part of the batch stays as it is.

    `told` [n, 3, k]: what the camera makes of these colors.
    """
    kept = _some(len(pictures), clean, pictures.device)
    x = occlude(pictures)
    x, answer = colors(x, truth)
    x = low_resolution(blur(x))
    x = noise(x)
    if x.shape[-1] % 16 == 0:
        x = jpeg(x.clamp(-1, 1))
    return torch.where(kept, pictures, x.clamp(-1, 1)), torch.where(kept[..., 0], truth, answer)
