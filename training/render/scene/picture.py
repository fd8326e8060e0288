"""From render passes to finished pictures: exposure, denoising, light under the skin, tone curve, background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyoidn
from PIL import Image
from scipy.ndimage import gaussian_filter

from training.render.person.colors import skin_tone
from training.render.person.features import Person
from training.render.scene.studio import SKIN, Passes
from training.render.scene.tone import curved, linear_to_srgb, srgb_to_linear, uncurved

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_SCATTER_DM = ((0, 0.026), (1, 0.011), (2, 0.0075))
"""Channel and radius, in decimetres, of light scattered under the skin."""


@dataclass(frozen=True)
class Picture:
    """RGB uint8 [h, w, 3] over its background, and coverage uint8 [h, w]."""

    rgb: np.ndarray
    alpha: np.ndarray

    def averaged(self, side: int) -> Picture:
        """Smaller by averaging squares of `side` pixels."""
        return Picture(*(np.asarray(Image.fromarray(values).reduce(side)) for values in (self.rgb, self.alpha)))


def develop_natural(passes: Passes, person: Person, width_dm: float) -> Picture:
    """Exposes for the skin, denoises with albedo and normals, and lets skin scatter light.

    `width_dm` is how much of the head's surroundings the frame shows from left to right.
    """
    rgb = passes.rgb * _exposure(passes, person)
    alpha = np.clip(passes.alpha, 0, 1)[..., None]
    behind = gradient(person, *rgb.shape[:2])
    mixed = rgb + uncurved(srgb_to_linear(behind)) * (1 - alpha)
    albedo = np.clip(passes.albedo + (1 - alpha), 0, 1)
    clean = pyoidn.denoise(
        np.ascontiguousarray(mixed),
        np.ascontiguousarray(albedo),
        np.ascontiguousarray(passes.normal),
        hdr=True,
        quality="fast",
    )
    clean = _scatter(clean, passes, clean.shape[1] / width_dm)
    return Picture(_bytes(linear_to_srgb(curved(_enrich(clean, passes)))), _bytes(alpha[..., 0]))


def develop_toon(passes: Passes, person: Person, width: int, height: int) -> Picture:
    """Flat colors as rendered, reduced to the final size over the background."""
    alpha = np.clip(passes.alpha, 0, 1)[..., None]
    rgb = np.where(alpha > 1e-3, passes.rgb / np.maximum(alpha, 1e-3), 0)
    person_layer = np.concatenate([linear_to_srgb(rgb) * alpha, alpha], -1)
    layer = _resize(person_layer, width, height)
    cover = np.clip(layer[..., 3:], 0, 1)
    rgb = np.clip(layer[..., :3], 0, 1) + gradient(person, height, width) * (1 - cover)
    return Picture(_bytes(rgb), _bytes(cover[..., 0]))


def gradient(person: Person, height: int, width: int) -> np.ndarray:
    """The background, sRGB float32 [h, w, 3]: radial for tilt 0, top to bottom for tilt 1."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
    tilt = np.float32(person["background_tilt"])
    share = (1 - tilt) * np.clip(np.hypot(x, y + 0.05) * 1.5, 0, 1) + tilt * (y + 0.5)
    inner, outer = (
        np.array([person[f"background_{name}_{channel}"] for channel in "rgb"], np.float32) for name in ("inner", "outer")
    )
    return inner * (1 - share[..., None]) + outer * share[..., None]


def _exposure(passes: Passes, person: Person) -> float:
    """Scale that makes the skin about as bright as its own color in good light."""
    skin = (passes.index == SKIN) & (passes.alpha > 0.99)
    if skin.sum() < 100:
        return 1.0
    light = float((passes.rgb[skin] @ _LUMA).mean()) / max(float((passes.albedo[skin] @ _LUMA).mean()), 1e-3)
    tone = float(skin_tone(person) @ _LUMA)
    lift = (0.4 / tone) ** 0.28
    return lift * 0.82 * 2 ** (0.4 * float(person["exposure"])) / max(light, 1e-3)


def _scatter(rgb: np.ndarray, passes: Passes, pixels_per_dm: float) -> np.ndarray:
    """Blurs the light on the skin, not its color, red furthest: a cheap stand-in for subsurface scattering."""
    skin = ((passes.index == SKIN) & (passes.alpha > 0.95)).astype(np.float32)
    albedo = np.maximum(passes.albedo, 0.02)
    out = rgb.copy()
    for channel, radius_dm in _SCATTER_DM:
        light = rgb[..., channel] / albedo[..., channel]
        sigma = radius_dm * pixels_per_dm
        weight = gaussian_filter(skin, sigma)
        soft = gaussian_filter(light * skin, sigma) / np.maximum(weight, 1e-3)
        share = 0.75 * skin
        out[..., channel] = albedo[..., channel] * (soft * share + light * (1 - share))
    return out


def _enrich(rgb: np.ndarray, passes: Passes) -> np.ndarray:
    """A little more color and contrast for the person, none for the background."""
    grey = rgb @ _LUMA
    vivid = np.maximum(grey[..., None] + 1.12 * (rgb - grey[..., None]), 0)
    deep = vivid * (np.maximum(grey, 1e-4)[..., None] / 0.35) ** 0.08
    share = np.clip(passes.alpha, 0, 1)[..., None]
    return deep * share + rgb * (1 - share)


def _resize(layer: np.ndarray, width: int, height: int) -> np.ndarray:
    if layer.shape[:2] == (height, width):
        return layer
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(layer[..., c])).resize((width, height), Image.Resampling.LANCZOS))
        for c in range(layer.shape[-1])
    ]
    return np.stack(channels, -1)


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
