"""Inputs as a bundle's networks see them: for measuring drift and speed, and for calibrating int8.

Codes are those that the bundle carries or that its mapping network gives; crops are aligned pictures of
faces, the caller's own or painted by the bundle's generator. All draws are seeded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backends import Session
from ..backends.base import Array
from ..bundle.reader import Bundle
from ..encode import pool
from ..pictures.resample import resample
from ..types import Floats

Feeds = dict[str, Array]


def sample_inputs(
    bundle: Bundle,
    network: str,
    count: int,
    seed: int = 0,
    crops: Sequence[Floats] = (),  # RGB float32 [3,S,S], -1..1, aligned faces
) -> list[Feeds]:
    """``count`` inputs of ``network``; given crops come first, invented people fill up."""
    session = bundle.session(network)
    names = [spec.name for spec in session.inputs]
    if names == ["z"]:
        return [{"z": z[None]} for z in _normal((count, *session.inputs[0].shape[1:]), seed)]
    if names == ["codes"]:
        return [{"codes": code[None]} for code in sample_codes(bundle, count, seed)]
    picture = session.inputs[0]
    size = picture.shape[-1]
    faces = [_resized(crop, size) for crop in list(crops)[:count]]
    if len(faces) < count:
        codes = sample_codes(bundle, count - len(faces), seed)
        faces += [_resized(bundle.synthesize(code[None], bundle.styles[0])[0], size) for code in codes]
    feeds: list[Feeds] = [{picture.name: face[None]} for face in faces]
    if picture.name == "crop" and picture.shape[1] == 6:
        before = pool(bundle.synthesize(bundle.latent_avg[None]), size)
        feeds = [{"crop": np.concatenate([f["crop"], before], axis=1)} for f in feeds]
    if "landmarks" in names:
        points = session.inputs[names.index("landmarks")].shape
        for one in feeds:
            one["landmarks"] = _landmarks(bundle, one["crop"][0, :3], points)
    for name in ("memory", "trust"):  # nothing is remembered of unrelated pictures
        if name in names:
            shape = session.inputs[names.index(name)].shape
            for one in feeds:
                one[name] = np.zeros(shape, np.float32)
    return feeds


def sample_codes(bundle: Bundle, count: int, seed: int = 0) -> Floats:
    """W+ codes float32 [count, n_styles, w_dim] of different people."""
    stored = bundle.latent.get("samples")
    if stored is not None and len(stored) >= count:
        order = np.random.default_rng(seed).permutation(len(stored))[:count]
        return np.ascontiguousarray(stored[order], np.float32)
    if "mapping" in bundle.manifest.networks:
        w = bundle.map(_normal((count, bundle.manifest.z_dim), seed))
        return np.repeat(w[:, None], bundle.n_styles, axis=1)
    spread = bundle.latent.get("w_std", np.float32(0.5))
    offsets = _normal((count, 1, bundle.w_dim), seed) * spread
    return np.asarray(bundle.latent_avg + offsets, np.float32)


def _landmarks(bundle: Bundle, crop: Floats, shape: tuple[int, ...]) -> Floats:
    if "landmarks" not in bundle.manifest.networks:
        return np.full(shape, crop.shape[-1] / 2, np.float32)
    from ..track.tracker import landmarks_in_crop

    tracker: Session = bundle.session("landmarks")
    return np.ascontiguousarray(landmarks_in_crop(tracker, crop)[None], np.float32)


def _resized(picture: Floats, size: int) -> Floats:
    """[3,R,R] -> [3,size,size], clipped to -1..1."""
    if picture.shape[-1] != size:
        picture = resample(picture, (size, size))
    return np.ascontiguousarray(np.clip(picture, -1, 1), np.float32)


def _normal(shape: tuple[int, ...], seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
