"""Teaches the mapping network by itself, before the synthesis: w should tell, linearly, what a small picture shows.

Mapping is a regression: features in, codes out. Learned through the synthesis it is slow, since every step costs two pictures.
Here its target are principal components of the small pictures of both looks (people before gray, and their coverage), which a
plain linear layer reads from w: thousands of steps a minute. Pose, hair mass and shading, two thirds of a generator's error,
are decided at this size. The backgrounds, which those pictures do without, are read from w beside them.

A generator that is there already goes on: what it calls w is regressed as well, and its modulations are rewritten for the new w.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.fit.data import People, batch
from training.fit.directions import codes_of, ridge
from training.fit.features import FeatureCodec
from training.fit.networks import Mapping, ModulatedConv, Synthesis
from training.fit.variants import Backgrounds, Mirror

SIZE = 32  # pixels
_COMPONENTS = 400
_RATE = 3e-3
_DECAY = 0.3
_BATCH = 128
_BACKGROUND_SHARE = 0.1  # of the loss
_OLD_SHARE = 0.1  # of the loss, for the codes of an earlier mapping network


class Components:
    """Principal components of small pictures, and how they go with features; each person twice, as in a mirror too."""

    def __init__(self, people: People, codec: FeatureCodec, device: torch.device, size: int = SIZE) -> None:
        self.size = min(size, people.size)
        self._backgrounds = Backgrounds(codec, device)
        self._mirror = Mirror(codec, device)
        features, pictures = self._read(people, people.everyone())
        self.features = features
        self.mean = pictures.mean(0)
        most = min(_COMPONENTS, *pictures.shape)
        _, _, self.basis = torch.svd_lowrank(pictures - self.mean, q=most, niter=2)
        self.values = (pictures - self.mean) @ self.basis
        self.scale = self.values.std(0).mean()

    def _read(self, people: People, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features [2n, F] and people before gray with their coverage [2n, 8 * size * size]."""
        features, pictures = [], []
        for part in rows.split(256):
            seen = batch(people, part, self.size)
            for one in (self._mirror.some(seen, 0.0), self._mirror.some(seen, 1.0)):
                background = self._backgrounds.gradient(one.features, self.size)
                looks = [(one.photo, one.photo_alpha), (one.toon, one.toon_alpha)]
                layers = [layer for picture, alpha in looks for layer in (picture - background * (1 - alpha), alpha)]
                features.append(one.features)
                pictures.append(torch.cat(layers, 1).flatten(1))
        return torch.cat(features), torch.cat(pictures)

    def psnr(self, values: Tensor, people: People, rows: Tensor) -> float:
        """dB of the photo look that these components [n, k] give, before the people's own backgrounds."""
        layers = (values @ self.basis.T + self.mean).reshape(len(rows), 8, self.size, self.size)
        real = batch(people, rows, self.size)
        made = layers[:, :3] + self._backgrounds.gradient(real.features, self.size) * (1 - layers[:, 3:4])
        error = (made.clamp(-1, 1) - real.photo).square().mean((1, 2, 3))
        return float((10 * torch.log10(4 / error.clamp(min=1e-10))).mean())


def learn(
    mapping: Mapping,
    codec: FeatureCodec,
    people: People,
    seconds: float,
    earlier: Mapping | None = None,
    report: Callable[..., None] = lambda **_: None,
) -> Linear | None:
    """Trains `mapping` for that many seconds; returns how the codes of the `earlier` network are read from the new ones."""
    device = next(mapping.parameters()).device
    known = Components(people, codec, device)
    told = codec.quiet_z(codec.standardize(known.features))
    background = codec.standardize(known.features)[:, codec.columns("background")]
    targets, shares = [known.values / known.scale, background], [1.0, _BACKGROUND_SHARE]
    old = None if earlier is None else earlier_codes(earlier, codec, known.features)
    if old is not None:
        centered = old - old.mean(0)
        targets.append(centered / centered.square().mean().sqrt())
        shares.append(_OLD_SHARE)
    wanted = torch.cat(targets, 1)
    weight = torch.cat(
        [target.new_full((target.shape[1],), share / target.shape[1]) for target, share in zip(targets, shares, strict=True)]
    )
    read = nn.Linear(mapping.width, wanted.shape[1]).to(device)
    optimizer = torch.optim.AdamW(_groups(mapping, read))
    peaks = [group["lr"] for group in optimizer.param_groups]
    noise, mapping.noise = mapping.noise, 0.0
    began = said = time.monotonic()
    steps = 0
    while (fraction := (time.monotonic() - began) / max(seconds, 1e-3)) < 1:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * (0.5 * (1 + math.cos(math.pi * fraction)) + 1e-3)
        rows = torch.randint(len(told), (_BATCH,), device=device)
        loss = ((read(mapping.skip_norm(told[rows])) - wanted[rows]).square() @ weight).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps += 1
        if time.monotonic() - said > 20:
            said = time.monotonic()
            figures = _judge(mapping, codec, known, read, people)
            report(event="mapping", step=steps, fraction=fraction, loss=loss.detach(), **figures)
    mapping.noise = noise
    report(event="mapping learned", step=steps, people=len(told) // 2, **_judge(mapping, codec, known, read, people))
    if old is None:
        return None
    with torch.no_grad():
        return Linear.solve(mapping.skip_norm(told), old)


@torch.no_grad()
def _judge(mapping: Mapping, codec: FeatureCodec, known: Components, read: nn.Linear, people: People) -> dict[str, float]:
    rows = people.everyone(held_out=True)[:400]
    if not len(rows):
        return {}
    told = read(codes_of(codec, mapping, people.features[rows]))
    components = known.values.shape[1]
    columns = codec.columns("background")
    background = codec.standardize(people.features[rows])[:, columns]
    missed = (told[:, components : components + len(columns)] - background).square().mean() / background.var(0).mean()
    return {
        f"psnr_{known.size}": known.psnr(told[:, :components] * known.scale, people, rows),
        "background": 1 - float(missed),  # part of its variance that is told
    }


def _groups(mapping: Mapping, read: nn.Linear) -> list[dict[str, object]]:
    """Rates for what the layers compute with: equalized weights are stored much larger than they act."""
    groups: list[dict[str, object]] = [{"params": list(read.parameters()), "lr": _RATE, "weight_decay": _DECAY}]
    for layer in mapping.layers:
        for parameter, gain in ((layer.weight, layer.gain), (layer.bias, layer.lr_mul)):
            groups.append({"params": [parameter], "lr": _RATE / gain, "weight_decay": _DECAY * gain})
    return groups


def earlier_codes(mapping: Mapping, codec: FeatureCodec, features: Tensor) -> Tensor:
    """w of raw features [n, F] by a mapping network of any width that was trained with the same features."""
    return codes_of(codec.widened(mapping.width), mapping, features)


class Linear:
    """y = x @ matrix + offset."""

    def __init__(self, matrix: Tensor, offset: Tensor) -> None:
        self.matrix, self.offset = matrix, offset

    @classmethod
    def solve(cls, x: Tensor, y: Tensor, strength: float = 1e-4) -> Linear:
        """Ridge regression of y [n, b] on x [n, a]."""
        mean_x, mean_y = x.mean(0), y.mean(0)
        matrix = ridge((x - mean_x).double(), (y - mean_y).double(), strength).float()
        return cls(matrix, mean_y - mean_x @ matrix)


@torch.no_grad()
def take_over(synthesis: Synthesis, earlier: Synthesis, old_from_new: Linear) -> None:
    """`synthesis` becomes `earlier` for codes from which the earlier codes are read by `old_from_new`."""
    state = earlier.state_dict()
    before = dict(earlier.named_modules())
    for name, module in synthesis.named_modules():
        if not isinstance(module, ModulatedConv):
            continue
        new, old = module.modulation, before[name].modulation
        acting = old.weight * old.gain  # styles = acting @ w + bias
        state[f"{name}.modulation.weight"] = acting @ old_from_new.matrix.T / new.gain
        state[f"{name}.modulation.bias"] = old.bias + acting @ old_from_new.offset / new.lr_mul
    synthesis.load_state_dict(state)
