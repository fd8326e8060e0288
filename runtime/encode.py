"""Aligned crops to W+ codes, and what keeps codes steady over a video.

``Encoder``        one pass (pSp, e4e, ours), or ReStyle's loop of residues
``LatentSmoother`` one-euro filter on codes: calm when still, quick when moving
``IdentityLock``   what the encoder reads of appearance is averaged over time, what moves is not
``RelativeMotion`` an enrolled person moves as the driver moves away from their own neutral face

Which architectures become such networks is the exporter's to know: ``export/networks/encoders.py``.
"""

from __future__ import annotations

import numpy as np

from .backends import Session
from .errors import BackendError
from .manifest import EncoderInfo
from .track.one_euro import low_pass_gain
from .track.tracker import landmarks_in_crop
from .types import Floats


class Encoder:
    """Callable: RGB float32 [N,3,S,S] in -1..1 -> codes float32 [N, n_styles, w_dim].

    ReStyle (Alaluf et al. 2021): the network sees the crop beside the picture of the code so far and
    answers with a residue; the first picture is that of the average code.
    """

    def __init__(
        self,
        session: Session,  # tensors as in `manifest.py`
        info: EncoderInfo,
        latent_avg: Floats,  # [n_styles, w_dim]
        generator: Session | None = None,  # needed by ReStyle
        landmarks: Session | None = None,  # needed where the encoder takes landmarks and none are given
        appearance: Floats | None = None,  # [a]: of the person that the bundle was enrolled for
    ) -> None:
        self._session = session
        self._info = info
        self._average = np.ascontiguousarray(latent_avg[None], np.float32)
        self._generator = generator
        self._landmarks = landmarks
        self.crop_size = session.inputs[0].shape[2]
        shapes = {spec.name: spec.shape for spec in session.inputs}
        self.takes_landmarks = "landmarks" in shapes
        self.appearance_size = shapes["memory"][-1] if "memory" in shapes else 0  # 0: it has no memory
        self._appearance = appearance
        self._average_picture: Floats | None = None  # pooled picture of the average code, made once

    def new_lock(self) -> IdentityLock:
        """A memory for a face not seen before; in a bundle of one person, of that person for good."""
        return IdentityLock(self.appearance_size, start=self._appearance)

    def __call__(
        self,
        crops: Floats,
        *,
        steps: int | None = None,
        landmarks: Floats | None = None,
        lock: IdentityLock | None = None,  # of one face, advanced to its time; for encoders with a memory
    ) -> Floats:
        """Codes float32 [N, n_styles, w_dim] of crops, RGB float32 [N,3,S,S] in -1..1.

        steps: refinements of ReStyle; None: as many as the bundle says. landmarks: float32 [N,468,3], pixels
        of the crop, where the encoder takes them; None: they are found in the crops. Raises ValueError for
        crops of another shape and impossible steps, BackendError for landmarks of another shape.
        """
        return self.trajectory(crops, steps=steps, landmarks=landmarks, lock=lock)[-1]

    def trajectory(
        self,
        crops: Floats,
        *,
        steps: int | None = None,
        landmarks: Floats | None = None,
        lock: IdentityLock | None = None,
    ) -> list[Floats]:
        """Codes after each step of the loop; one entry for a one-pass encoder."""
        size = self.crop_size
        if crops.ndim != 4 or crops.shape[1:] != (3, size, size):
            raise ValueError(f"crops: expected RGB float32 [N,3,{size},{size}], got {list(crops.shape)}")
        if steps is not None and (self._info.loop == "one-pass" or steps < 1):
            allowed = "no steps (a one-pass encoder)" if self._info.loop == "one-pass" else "steps >= 1"
            raise ValueError(f"encode: expected {allowed}, got steps={steps}")
        crops = np.ascontiguousarray(crops, np.float32)
        if self.takes_landmarks and landmarks is None:
            landmarks = self._find_landmarks(crops)
        runs = [
            self._one(crops[i : i + 1], None if landmarks is None else landmarks[i : i + 1], steps, lock)
            for i in range(len(crops))
        ]
        return [np.concatenate(step) for step in zip(*runs, strict=True)]

    def _one(
        self, crop: Floats, landmarks: Floats | None, steps: int | None, lock: IdentityLock | None
    ) -> list[Floats]:
        if self._info.loop == "one-pass":
            feeds = {"crop": crop}
            if self.takes_landmarks and landmarks is not None:
                feeds["landmarks"] = np.ascontiguousarray(landmarks, np.float32)
            if not self.appearance_size:
                return [self._session.run(feeds)["codes"]]
            lock = lock or self.new_lock()
            answer = self._session.run(feeds | lock.feeds())
            lock.keep(answer["appearance"])
            return [answer["codes"]]
        codes = self._average
        trajectory = []
        for _ in range(steps or self._info.steps):
            pair = np.concatenate([crop, self._picture(codes)], axis=1)
            codes = codes + self._session.run({"crop": pair})["codes"]
            trajectory.append(codes)
        return trajectory

    def _picture(self, codes: Floats) -> Floats:
        """Picture of ``codes`` at the crop's size."""
        if codes is self._average and self._average_picture is not None:
            return self._average_picture
        assert self._generator is not None, "ReStyle needs the generator"
        picture = pool(self._generator.run({"codes": codes})["image"], self.crop_size)
        if codes is self._average:
            self._average_picture = picture
        return picture

    def _find_landmarks(self, crops: Floats) -> Floats:
        if self._landmarks is None:
            raise BackendError(
                "encode: this encoder takes landmarks; pass them or use a bundle with trackers"
            )
        return np.stack([landmarks_in_crop(self._landmarks, crop) for crop in crops])


def pool(image: Floats, size: int) -> Floats:
    """Adaptive average pooling of [N,C,R,R] to [N,C,size,size], R and size powers of two."""
    side = image.shape[-1]
    if side == size:
        return image
    if side < size:
        factor = size // side
        return image.repeat(factor, axis=2).repeat(factor, axis=3)
    factor = side // size
    n, c = image.shape[:2]
    blocks = image.reshape(n, c, size, factor, size, factor)
    return np.ascontiguousarray(blocks.mean(axis=(3, 5), dtype=np.float32))


class LatentSmoother:
    """One-euro filter (Casiez et al. 2012) over whole codes.

    The cut-off rises with the code's speed, so that a still face is calm and a quick one does not lag.
    ``min_cutoff_hz``: cut-off at rest; ``beta``: added Hz per unit of speed, in spreads of W per second.
    """

    def __init__(self, scale: Floats | float, min_cutoff_hz: float = 1.5, beta: float = 1.0) -> None:
        self._scale = np.maximum(np.asarray(scale, np.float32), 1e-6)
        self._min_cutoff_hz = min_cutoff_hz
        self._beta = beta
        self._code: Floats | None = None
        self._speed = 0.0
        self._time_s = 0.0

    def __call__(self, codes: Floats, time_s: float) -> Floats:
        """codes [1, n_styles, w_dim] at ``time_s`` -> smoothed codes, same shape."""
        if self._code is None:
            self._code, self._time_s = codes, time_s
            return codes
        step_s = max(time_s - self._time_s, 1e-3)
        change = (codes - self._code) / self._scale
        speed = float(np.sqrt(np.mean(change**2))) / step_s
        self._speed += low_pass_gain(1.0, step_s) * (speed - self._speed)
        weight = low_pass_gain(self._min_cutoff_hz + self._beta * self._speed, step_s)
        self._code = self._code + np.float32(weight) * (codes - self._code)
        self._time_s = time_s
        return self._code


class IdentityLock:
    """Keep who it is, let through what moves: one face's appearance, averaged over ``memory_s`` seconds.

    An encoder with a memory reads appearance and motion apart. It takes ``trust`` times the appearance in
    ``memory`` and the rest from the crop, and answers with the mixture, which is remembered: a running mean
    of the whole time at first, an exponential one after that. Pose, expression and gaze never pass through.

    With a ``start``, the appearance of an enrolled person, nothing is read from the crop.
    """

    def __init__(
        self,
        appearance_size: int,
        memory_s: float = 20.0,
        start: Floats | None = None,  # float32 [a] or [1,a]
    ) -> None:
        if appearance_size < 1:
            raise ValueError(f"appearance_size: expected 1 or more, got {appearance_size}: no memory to lock")
        if start is not None and start.size != appearance_size:
            raise ValueError(
                f"start: expected an appearance of {appearance_size} numbers, got {list(start.shape)}"
            )
        self._fixed = start is not None
        self.memory: Floats = np.zeros((1, appearance_size), np.float32)
        if start is not None:
            self.memory[0] = start.reshape(-1)
        self.trust = 1.0 if self._fixed else 0.0  # of the next code in the memory, 0..1
        self._memory_s = memory_s
        self._seen_s = 0.0
        self._time_s: float | None = None

    def advance(self, time_s: float) -> None:
        """The next code is of ``time_s``."""
        if self._fixed:
            return
        if self._time_s is not None:
            step_s = max(time_s - self._time_s, 1e-3)
            self._seen_s = min(self._seen_s + step_s, self._memory_s)
            self.trust = 1 - step_s / max(self._seen_s + step_s, 2 * step_s)
        self._time_s = time_s

    def feeds(self) -> dict[str, Floats]:
        """``memory`` [1,a] and ``trust`` [1,1] for the encoder."""
        return {"memory": self.memory, "trust": np.full((1, 1), self.trust, np.float32)}

    def keep(self, appearance: Floats) -> None:
        """Remember the encoder's answer [1,a]."""
        if self._fixed:
            return
        self.memory = np.array(appearance, np.float32)


class RelativeMotion:
    """Moves one person by another's change from their own neutral face: ``pivot + codes - neutral``.

    For a person who does not look straight ahead, and for encoders that cannot tell motion from looks.
    Neutral is the driver's mean over the first ``settle_s`` seconds.
    """

    def __init__(
        self,
        pivot: Floats,  # float32 [n_styles, w_dim]: the code of the person who is moved
        settle_s: float = 1.0,
    ) -> None:
        self._pivot = pivot[None]
        self._settle_s = settle_s
        self._neutral: Floats | None = None
        self._frames = 0
        self._began_s = 0.0

    def __call__(self, codes: Floats, time_s: float) -> Floats:
        """codes [1, n_styles, w_dim] of the driver at ``time_s`` -> of the person moved, same shape."""
        if self._neutral is None:
            self._neutral, self._began_s = codes.copy(), time_s
        if time_s - self._began_s <= self._settle_s:
            self._frames += 1
            self._neutral += (codes - self._neutral) / self._frames
        return np.asarray(self._pivot + codes - self._neutral, np.float32)
