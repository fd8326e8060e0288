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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.fit.directions import codes_of, ridge
from training.fit.networks.precision import fast_products, maps_dtype
from training.fit.networks.stylegan2 import Mapping, ModulatedConv, Synthesis
from training.fit.people.data import People, batch
from training.fit.people.features import FeatureCodec
from training.fit.people.older import in_terms_of
from training.fit.people.variants import Backgrounds, Mirror

SIZE = 32  # pixels
_COMPONENTS = 400
_MOST_FOR_BASIS = 8000  # pictures
_RATE = 6e-3  # of Adam, which the linear layers that read have, and all biases
_DECAY = 0.3
_STEP = 0.04  # of Muon, which the mapping's weights have: the length of a step's singular values
_STEP_DECAY = 0.1
_BATCH = 512  # at most a quarter of the people
_WARM = 0.03  # of the time: a short run has few steps
_SKETCHES_ALONE = 0.5  # of the time, if there are any
_BACKGROUND_SHARE = 0.1  # of the loss
_OLD_SHARE = 0.1  # of the loss, for the codes of an earlier mapping network


class Components:
    """Principal components of small pictures [n, c * size * size], and the raw features [n, F] they go with."""

    def __init__(self, features: Tensor, pictures: Tensor) -> None:
        self.features = features
        self.mean = pictures.mean(0)
        some = pictures[torch.randperm(len(pictures))[:_MOST_FOR_BASIS]] - self.mean
        _, _, self.basis = torch.svd_lowrank(some, q=min(_COMPONENTS, *some.shape), niter=2)
        self.values = pictures @ self.basis - self.mean @ self.basis
        self.scale = self.values.std(0).mean()


class RenderedComponents(Components):
    """Of rendered people in both looks: before gray, and their coverage. Each person twice, as in a mirror too."""

    def __init__(self, people: People, codec: FeatureCodec, device: torch.device, size: int = SIZE) -> None:
        self.size = min(size, people.size)
        self._backgrounds = Backgrounds(codec, device)
        super().__init__(*self._read(people, people.everyone(), Mirror(codec, device)))

    def _read(self, people: People, rows: Tensor, mirror: Mirror) -> tuple[Tensor, Tensor]:
        features, pictures = [], []
        for part in rows.split(256):
            seen = batch(people, part, self.size)
            for one in (mirror.some(seen, 0.0), mirror.some(seen, 1.0)):
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
        drawn = layers[:, :3] + self._backgrounds.gradient(real.features, self.size) * (1 - layers[:, 3:4])
        error = (drawn.clamp(-1, 1) - real.photo).square().mean((1, 2, 3))
        return float((10 * torch.log10(4 / error.clamp(min=1e-10))).mean())


def sketched(folder: Path, codec: FeatureCodec, device: torch.device) -> Components:
    """Of everybody in `folder` (`training.render.sketch`), and as in a mirror."""
    paths = sorted(folder.glob("sketch-*.npz"))
    if not paths:
        raise FileNotFoundError(f"{folder}: expected sketch-*.npz, found none; draw some with `python -m training.render.sketch`")
    features, pictures = [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as block:
            features.append(torch.from_numpy(block["features"]))
            layers = torch.from_numpy(block["pictures"]).permute(0, 3, 1, 2).float() / 255
        layers[:, :3] = 2 * layers[:, :3] - layers[:, 3:]  # premultiplied 0..1 -> premultiplied -1..1
        pictures.append(layers)
    known, seen = torch.cat(features).to(device), torch.cat(pictures).to(device)
    mirror = Mirror(codec, device)
    return Components(torch.cat([known, mirror.features(known)]), torch.cat([seen, seen.flip(3)]).flatten(1))


class _Lesson(nn.Module):
    """What plain linear layers should read from w: components of pictures, backgrounds, and an earlier network's codes."""

    def __init__(self, known: Components, codec: FeatureCodec, width: int, earlier: Earlier | None) -> None:
        super().__init__()
        self.told = codec.quiet_z(codec.standardize(known.features))
        background = codec.standardize(known.features)[:, codec.columns("background")]
        targets, shares = [known.values / known.scale, background], [1.0, _BACKGROUND_SHARE]
        self.old = None if earlier is None else earlier.codes(codec.names, known.features)
        if self.old is not None:
            centered = self.old - self.old.mean(0)
            targets.append(centered / centered.square().mean().sqrt())
            shares.append(_OLD_SHARE)
        self.wanted = torch.cat(targets, 1)
        weights = [t.new_full((t.shape[1],), share / t.shape[1]) for t, share in zip(targets, shares, strict=True)]
        self.weight = torch.cat(weights)
        self.read = nn.Linear(width, self.wanted.shape[1]).to(self.wanted.device)

    def loss(self, mapping: Mapping) -> Tensor:
        rows = torch.randint(len(self.told), (min(_BATCH, max(64, len(self.told) // 4)),), device=self.told.device)
        wrong = self.read(mapping.skip_norm(self.told[rows])).float() - self.wanted[rows]
        return (wrong.square() @ self.weight).mean()


def learn(
    mapping: Mapping,
    codec: FeatureCodec,
    people: People,
    fractions: Iterable[float],
    earlier: Earlier | None = None,
    sketches: Path | None = None,
    report: Callable[..., None] = lambda **_: None,
) -> Linear | None:
    """Trains `mapping` one step for each of the growing `fractions` of the time there is (`clock.elapsing`).

    Returns how the codes of the `earlier` network are read from the new ones.

    With a folder of `sketches`, half of the time goes to them alone; then they go along with the renders.
    """
    device = next(mapping.parameters()).device
    known = RenderedComponents(people, codec, device)
    rendered = _Lesson(known, codec, mapping.width, earlier)
    drawn = None if sketches is None else _Lesson(sketched(sketches, codec, device), codec, mapping.width, earlier)
    lessons = [lesson for lesson in (rendered, drawn) if lesson is not None]
    optimizers = _optimizers(mapping, [lesson.read for lesson in lessons])
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    noise, mapping.noise = mapping.noise, 0.0
    said = time.monotonic()
    steps = 0
    for fraction in fractions:
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * (0.5 * (1 + math.cos(math.pi * fraction)) + 1e-3) * min(1.0, fraction / _WARM + 1e-3)
        now = [drawn] if drawn is not None and fraction < _SKETCHES_ALONE else lessons
        with fast_products(device):
            loss = torch.stack([lesson.loss(mapping) for lesson in now]).sum()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        if time.monotonic() - said > 20:
            said = time.monotonic()
            figures = _evaluate(mapping, codec, known, rendered.read, people)
            report(event="mapping", step=steps, fraction=fraction, loss=loss.detach(), **figures)
    mapping.noise = noise
    figures = _evaluate(mapping, codec, known, rendered.read, people)
    counts = {"people": len(rendered.told) // 2, "sketches": 0 if drawn is None else len(drawn.told) // 2}
    report(event="mapping learned", step=steps, **counts, **figures)
    if earlier is None:
        return None
    told, old = (torch.cat([getattr(lesson, name) for lesson in lessons]) for name in ("told", "old"))
    with torch.no_grad():
        return Linear.solve(mapping.skip_norm(told), old)


@torch.no_grad()
def _evaluate(
    mapping: Mapping, codec: FeatureCodec, known: RenderedComponents, read: nn.Linear, people: People
) -> dict[str, float]:
    rows = people.everyone(held_out=True)[:400]
    if not len(rows):
        return {}
    answer = read(codes_of(codec, mapping, people.features[rows]))
    components = known.values.shape[1]
    columns = codec.columns("background")
    background = codec.standardize(people.features[rows])[:, columns]
    missed = (answer[:, components : components + len(columns)] - background).square().mean() / background.var(0).mean()
    return {
        f"psnr_{known.size}": known.psnr(answer[:, :components] * known.scale, people, rows),
        "background": 1 - float(missed),  # part of its variance that is told
    }


def _optimizers(mapping: Mapping, reads: list[nn.Linear]) -> list[torch.optim.Optimizer]:
    """Muon (orthogonalized momentum, Jordan 2024) for the mapping's weights, Adam for everything else.

    Muon multiplies in bfloat16; where that is not fast, its steps would cost more than they gain, and Adam has them all.

    Rates are those of what the layers compute with: equalized weights are stored much larger than they act.
    """
    plain: list[dict[str, object]] = [
        {"params": [p for read in reads for p in read.parameters()], "lr": _RATE, "weight_decay": _DECAY}
    ]
    matrices: list[dict[str, object]] = []
    for layer in mapping.layers:
        plain.append({"params": [layer.bias], "lr": _RATE / layer.lr_mul, "weight_decay": _DECAY * layer.lr_mul})
        if maps_dtype(layer.weight.device) == torch.float32:
            plain.append({"params": [layer.weight], "lr": _RATE / layer.gain, "weight_decay": _DECAY * layer.gain})
        else:
            matrices.append({"params": [layer.weight], "lr": _STEP / layer.gain, "weight_decay": _STEP_DECAY * layer.gain})
    muon = [torch.optim.Muon(matrices)] if matrices else []
    return [*muon, torch.optim.AdamW(plain)]


@dataclass(frozen=True)
class Earlier:
    """A mapping network of any width that was trained before, with the features it was trained with."""

    mapping: Mapping
    codec: FeatureCodec

    def codes(self, names: Sequence[str], features: Tensor) -> Tensor:
        """w of raw features [n, F] of the list `names`, which may tell more than the network knows."""
        told = in_terms_of(self.codec.names, names, features)
        return codes_of(self.codec.widened(self.mapping.width).to(features.device), self.mapping, told)


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
