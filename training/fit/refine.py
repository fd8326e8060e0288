"""`python -m training.fit.refine --networks DIR --data DIR [DIR] --minutes M`: directions that move at every step, for everybody.

Directions from labels alone (`directions.py`) say where the mapping network sends a feature, not what the generator draws on
the way: a beard appears all at once, and below none there is nothing. Here pictures decide. A reader (`reader.py`), trained
apart from the judge of the evaluation, tells what pictures of the frozen generators show, and

- the range of an absolute dial is set to where the reader sees the attribute change;
- every offset is moved, row by row, down the gradient of: the part of an equal share of the way that a step lacks (hinge), what
  other attributes, background, light and clothes change meanwhile, and how far the offset is from where it began, in the codes'
  own spreads.

Writes `directions.npz`, `reader.pt` and `log-directions.jsonl` beside the networks (or into `--out`) and leaves all else alone.
`make_bundle` uses `directions.npz` where it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from training.fit.dials import Dial, first_dials, save_dials
from training.fit.directions import ATTRIBUTES, RELATED, codes_of, sampled_features
from training.fit.features import FeatureCodec
from training.fit.networks import Mapping, Synthesis, load_generator
from training.fit.reader import SIZE, Shown, load_reader, rendered, save_reader, train_reader
from training.fit.regressor import Regressor
from training.fit.report import Log

LOOKS = ("photo", "toon")
STEPS = 6
_TOON = 0.25  # part of the steps that look at the toon
_PEOPLE = 4  # per step
_COMPONENTS = 128  # of the codes' spread, in which offsets may move
_RATE = 0.04  # spreads per step
_SHARE = 0.6  # of an equal share of the way: what a step must cover
_MOST_LACKING = 1.5  # a loss beyond this gets no more time
_MARGIN = 0.06  # natural spreads: what any step must cover
_LEAK, _STILL, _MOVE, _FAR = 0.5, 0.5, 2.0, 0.02
_FURTHER, _LEAST = 1.1, 0.6  # how far an edit should move: relative to before, and in natural spreads
_FIRST_PERSON = 22_000_000  # neither the evaluation's people nor those that labels are averaged over
_CHECKED = 8  # people on whom before and after are compared
_SPAN = (0.04, 0.88)  # of the way that the reader sees: the ends of an absolute dial at most
_SETTLED = 0.25  # of the way: nearer to where it settles than that an absolute dial only goes if nearly everybody moves on
_STRAGGLERS = 0.1  # part of the people who need not
_LOWEST, _HIGHEST = (-1.4, -0.5), (0.95, 1.3)  # where the ends of an absolute dial may lie, between those that labels name
_USUAL = (-0.5, 1.2)  # the span of an absolute dial that the reader does not see
_VISIBLE = 0.3  # correlation with the truth that a reader needs on an attribute's features; others are left as labels give them
_KEPT = 0.9  # of how far it moved: an edit that moves less than that is not better
_SAMPLED = 1500


@dataclass(frozen=True)
class Scene:
    """What directions are refined against; nothing in it learns.

    matrix [F, attributes] and constant [attributes] turn raw features into attribute values in natural spreads; still: columns of
    features that no edit should change; white [k, w_dim]: rows are one spread of the codes along their principal components.
    """

    codec: FeatureCodec
    synthesis: dict[str, Synthesis]
    reader: Regressor
    names: list[str]
    matrix: Tensor
    constant: Tensor
    still: list[int]
    w: Tensor
    white: Tensor

    def read(self, codes: Tensor, look: str) -> tuple[Tensor, Tensor]:
        """codes [..., n_styles, w_dim] -> attribute values in spreads [..., attributes], still features [..., s]."""
        around = codes.shape[:-2]
        pictures = self.synthesis[look](codes.flatten(0, -3), int(self.reader.settings["size"]))
        told = self.reader(pictures.clamp(-1.1, 1.1))
        values = self.codec.features(told) @ self.matrix + self.constant
        return values.view(*around, -1), told[:, self.still].view(*around, -1)


def make_scene(
    codec: FeatureCodec, mapping: Mapping, synthesis: dict[str, Synthesis], reader: Regressor, names: list[str]
) -> Scene:
    features = torch.from_numpy(sampled_features(_SAMPLED, _FIRST_PERSON))
    w = codes_of(codec, mapping, features)
    matrix, constant = torch.zeros(codec.count, len(names)), torch.zeros(len(names))
    for k, name in enumerate(names):
        attribute = ATTRIBUTES[name]
        shared = [unit for unit in attribute.low if unit in attribute.high]
        low = torch.tensor([attribute.low[unit] for unit in shared])
        span = torch.tensor([attribute.high[unit] for unit in shared]) - low
        matrix[[codec.column(unit) for unit in shared], k] = span / span.square().sum()
        constant[k] = -(low @ span) / span.square().sum()
    spread = (features @ matrix).std(0) + 1e-6
    variance, vectors = torch.linalg.eigh((w - w.mean(0)).T @ (w - w.mean(0)) / len(w))
    white = (variance.clamp(min=0).sqrt() * vectors).T.flip(0)[:_COMPONENTS]
    still = codec.columns("background", "light", "clothing")
    return Scene(codec, synthesis, reader, names, matrix / spread, constant / spread, still, w, white.contiguous())


@torch.no_grad()
def calibrated(scene: Scene, name: str, dial: Dial, people: int = 12) -> Dial:
    """An absolute dial between the strengths where the reader sees the attribute change for nearly everybody.

    From where it changes most on average, either end goes outwards for as long as all but a few people still move the right way,
    and the average is not within a few percent of where it settles.
    """
    strengths = torch.linspace(-2.0, 2.2, 18)
    k = scene.names.index(name)
    curves = torch.cat([scene.read(dial.moved(one[None], strengths), "photo")[0][:, :, k] for one in scene.w[:people]])
    curve, steps = curves.mean(0), curves.diff(dim=1)
    steady = (steps.quantile(_STRAGGLERS, dim=0) > 0).tolist()
    top = int(curve.argmax())
    bottom = int(curve[: top + 1].argmin())
    rise = ((curve - curve[bottom]) / (curve[top] - curve[bottom]).clamp(min=1e-6)).tolist()
    first = int(steps.mean(0).argmax())
    last = first + 1
    while first > bottom and rise[first] > _SPAN[0] and (steady[first - 1] or rise[first] > _SETTLED):
        first -= 1
    while last < top and rise[last] < _SPAN[1] and (steady[last] or rise[last] < 1 - _SETTLED):
        last += 1
    # The labels' own ends are -1 and 1: what the reader says about rare things is not believed against them altogether.
    low = min(max(float(strengths[first]), _LOWEST[0]), _LOWEST[1])
    high = min(max(float(strengths[last]), _HIGHEST[0]), _HIGHEST[1])
    return dial.spanning(low, high)


def lacking(scene: Scene, k: int, related: Tensor, values: Tensor, still: Tensor, way: float) -> Tensor:
    """The loss of people at all strengths: values [n, STEPS + 1, attributes], still features [n, STEPS + 1, s].

    way: how far the attribute should move from end to end, in natural spreads.
    """
    steps, moved = values[:, :, k].diff(dim=1), values[:, -1] - values[:, 0]
    share = way / STEPS
    hinge = torch.relu(_SHARE * share - steps).mean() / share + torch.relu(_MARGIN - steps).mean() / _MARGIN
    leak = (related * (moved / way).square()).sum(1).mean()
    change = (still[:, -1] - still[:, 0]).square().mean()
    short = torch.relu(1 - moved[:, k].mean() / way)
    return hinge + _LEAK * leak + _STILL * change + _MOVE * short


@torch.no_grad()
def seen(scene: Scene, dial: Dial) -> tuple[Tensor, Tensor]:
    """What the reader sees of people whom no offset is refined on: values [n, STEPS + 1, attributes], still features."""
    strengths = torch.linspace(-1, 1, STEPS + 1)
    parts = [scene.read(dial.moved(part, strengths), "photo") for part in scene.w[-_CHECKED:].split(4)]
    return torch.cat([values for values, _ in parts]), torch.cat([still for _, still in parts])


def summary(k: int, values: Tensor) -> dict[str, float]:
    moved = values[:, -1] - values[:, 0]
    leak = moved.mean(0).abs() / moved[:, k].mean().abs().clamp(min=1e-6)
    return {
        "monotone": float((values[:, :, k].diff(dim=1) > -0.03).all(1).float().mean()),
        "moves": float(moved[:, k].mean()),
        "leak": float((leak.sum() - leak[k]) / max(1, len(leak) - 1)),
    }


def _reads(codec: FeatureCodec, r: dict[str, float], name: str) -> float:
    """How well the reader sees an attribute: its correlations, weighted by how far the attribute moves each feature."""
    low, high = ATTRIBUTES[name].low, ATTRIBUTES[name].high
    moves = {unit: abs(high[unit] - low[unit]) / float(codec.scale[codec.column(unit)]) for unit in low if unit in high}
    return sum(r[unit] * move for unit, move in moves.items()) / max(sum(moves.values()), 1e-6)


class Refinement:
    """One dial on its way: how it does, and better ones by gradient."""

    def __init__(self, scene: Scene, name: str, dial: Dial) -> None:
        self.scene, self.name, self.dial, self.blind = scene, name, dial, False
        self.k = scene.names.index(name)
        goes_along = [0.0 if o == name else 0.2 if frozenset((name, o)) in RELATED else 1.0 for o in scene.names]
        self.related = torch.tensor(goes_along)
        self.values, still = seen(scene, dial)
        self.before = summary(self.k, self.values)
        self.way = max(_LEAST, _FURTHER * self.before["moves"])
        self.loss = float(lacking(scene, self.k, self.related, self.values, still, self.way))

    def go_on(self, seconds: float, random: torch.Generator, log: Log) -> None:
        """Move the offset for `seconds`; it stays as it was where that makes nothing better on other people."""
        began, step, scene, dial = time.monotonic(), 0, self.scene, self.dial
        strengths = torch.linspace(-1, 1, STEPS + 1)
        change = torch.zeros(dial.offset.shape[0], len(scene.white), requires_grad=True)
        optimizer = torch.optim.Adam([change], lr=_RATE, betas=(0.9, 0.98))
        while (fraction := (time.monotonic() - began) / max(seconds, 1e-6)) < 0.95 or step == 0:
            look = LOOKS[int(torch.rand((), generator=random) < _TOON)]
            rows = torch.randint(len(scene.w) - _CHECKED, (_PEOPLE,), generator=random)
            codes = dial.moved(scene.w[rows], strengths, dial.offset + change @ scene.white)
            loss = lacking(scene, self.k, self.related, *scene.read(codes, look), self.way)
            loss = loss + _FAR * change.square().sum() / len(change)
            (change.grad,) = torch.autograd.grad(loss, change)
            optimizer.param_groups[0]["lr"] = _RATE * min(1.0, (step + 1) / 4, max(0.05, 1.6 * (1 - fraction)))
            optimizer.step()
            step += 1
        better = replace(dial, offset=dial.offset + change.detach() @ scene.white)
        values, still = seen(scene, better)
        loss_after = float(lacking(scene, self.k, self.related, values, still, self.way))
        told = {f"{key}_before": value for key, value in self.before.items()} | {"loss_before": self.loss}
        after = summary(self.k, values)
        kept = loss_after < self.loss and after["moves"] > _KEPT * self.before["moves"]
        log(direction=self.name, steps=step, kept=kept, **told, **after, loss=loss_after)
        if kept:
            self.dial, self.values, self.loss = better, values, loss_after

    @property
    def leak(self) -> dict[str, float]:
        """What the dial drags along from end to end, relative to what it moves, in natural spreads."""
        moved = (self.values[:, -1] - self.values[:, 0]).mean(0)
        relative = (moved / moved[self.k].abs().clamp(min=1e-6)).tolist()
        return {other: round(relative[j], 3) for j, other in enumerate(self.scene.names) if j != self.k}


def start_on(scene: Scene, name: str, dial: Dial) -> Refinement:
    """A refinement of a plain dial as it is, of an absolute one between the ends that the reader sees.

    Where it sees next to nothing of an absolute dial, as with what is rare among renders, its gradient is worth nothing either:
    then the dial stays on its usual span, and `blind` is set.
    """
    if dial.probe is None:
        return Refinement(scene, name, dial)
    work = Refinement(scene, name, calibrated(scene, name, dial))
    if work.before["moves"] < _LEAST:
        work = Refinement(scene, name, dial.spanning(*_USUAL))
        work.blind = True
    return work


def run(
    networks: Path,
    data: Sequence[Path],
    out: Path,
    seconds: float,
    seed: int = 1,
    reader: Path | None = None,
    reader_share: float | None = None,  # of the time, for the reader; None: a quarter if it goes on from another, else 45 %
    only: Sequence[str] = (),
) -> dict[str, Dial]:
    """The whole step on the CPU, on as many threads as torch has been given. Returns the dials, also in OUT/directions.npz.

    networks: a folder with features.npz, generator-photo.pt and generator-toon.pt, as `training.fit` leaves it.  data: folders of
    renders; they may be missing, or of any size.  only: the edits to refine; others keep what labels say.
    """
    began = time.monotonic()
    end = began + seconds
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out / "log-directions.jsonl", job="directions")
    random = torch.Generator().manual_seed(seed + 70)
    codec = FeatureCodec.load(networks / "features.npz")
    synthesis: dict[str, Synthesis] = {}
    for look in reversed(LOOKS):  # the photo's mapping is the one that counts
        state = torch.load(networks / f"generator-{look}.pt", map_location="cpu", weights_only=True)["g_ema"]
        mapping, synthesis[look] = load_generator(state)
    for network in (mapping, *synthesis.values()):
        network.eval().requires_grad_(False)
    size = min(SIZE, synthesis["photo"].size)
    people = torch.from_numpy(sampled_features(3000))
    dials = first_dials(codec, mapping, people, synthesis["photo"].n_styles)

    start = load_reader(reader) if reader is not None and reader.exists() else None
    if reader_share is None:
        reader_share = 0.45 if start is None else 0.25
    until = began + seconds * reader_share
    used = sorted({codec.column(unit) for name in dials for unit in (*ATTRIBUTES[name].low, *ATTRIBUTES[name].high)})
    renders = rendered(data, size)
    count = int(min(2000, max(24, 2 * seconds)))
    made = _made(codec, mapping, synthesis, size, count, 0.2 * (until - time.monotonic()))
    wanted = sorted({*used, *codec.columns("background", "light", "clothing")})
    network, told = train_reader(codec, wanted, renders, made, until - time.monotonic(), seed + 71, start)
    save_reader(out / "reader.pt", network)
    r = told.pop("r")
    log(event="reader", made=len(made), **told, r={codec.names[c]: r[codec.names[c]] for c in used} if r else {})

    scene = make_scene(codec, mapping, synthesis, network, list(dials))
    chosen = [name for name in only or dials if name in dials]
    works = [start_on(scene, name, dials[name]) for name in chosen]
    dials |= {work.name: replace(work.dial, leak=work.leak) for work in works}
    save_dials(out / "directions.npz", dials, codec, mapping)
    seen_well = [work for work in works if not work.blind and (not r or _reads(codec, r, work.name) >= _VISIBLE)]
    for i, work in enumerate(seen_well):  # who lacks more gets more time, within limits
        share = min(work.loss, _MOST_LACKING) / sum(min(other.loss, _MOST_LACKING) for other in seen_well[i:])
        work.go_on((end - time.monotonic()) * share, random, log)
        dials[work.name] = replace(work.dial, leak=work.leak)
        save_dials(out / "directions.npz", dials, codec, mapping)
    return dials


@torch.no_grad()
def _made(codec: FeatureCodec, mapping: Mapping, synthesis: dict[str, Synthesis], size: int, count: int, seconds: float) -> Shown:
    """Pictures by the generators, both looks of up to `count` people, as many as there is time for.

    Two of three are given one end of some attribute, so that the reader also gets to see what is rare.
    """
    features = torch.from_numpy(sampled_features(count, _FIRST_PERSON + _SAMPLED))
    ends = [end for name in ATTRIBUTES for end in (ATTRIBUTES[name].low, ATTRIBUTES[name].high) if set(end) <= set(codec.names)]
    for i in range(count):
        if i % 3 and ends:
            for unit, value in ends[(i - i // 3) % len(ends)].items():
                features[i, codec.column(unit)] = value
    w = codes_of(codec, mapping, features)
    pictures, rows = [], []
    end = time.monotonic() + seconds
    for part in torch.arange(count).split(8):
        for network in synthesis.values():
            drawn = network(w[part][:, None].expand(-1, network.n_styles, -1), size)
            pictures.append(((drawn.clamp(-1, 1) + 1) * 127.5).round().byte())
            rows.append(part)
        if time.monotonic() > end:
            break
    return Shown(torch.cat(pictures), features[torch.cat(rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fit.refine", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--networks", type=Path, required=True, help="features.npz, generator-photo.pt, generator-toon.pt")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="renders of any size, for the reader")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall-clock budget")
    parser.add_argument("--out", type=Path, help="default: the folder of the networks")
    parser.add_argument("--reader", type=Path, help="go on from this reader.pt; default: the one in --out or --networks, if any")
    parser.add_argument("--reader-share", type=float, help="of the time, to train the reader; 0: use it as it is")
    parser.add_argument("--only", nargs="*", default=[], choices=list(ATTRIBUTES), help="edits to refine; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    out = arguments.out or arguments.networks
    readers = [path / "reader.pt" for path in (out, arguments.networks) if (path / "reader.pt").exists()]
    reader = arguments.reader or (readers[0] if readers else None)
    run(
        arguments.networks, arguments.data, out, 60 * arguments.minutes, arguments.seed,
        reader, arguments.reader_share, arguments.only,
    )  # fmt: skip


if __name__ == "__main__":
    main()
