"""From shards on disk to tensors on the accelerator, while the renderer is still writing.

One ingesting process decodes new people and finds their face mesh, and writes plain blocks into a cache folder; any number of
trainers pick blocks up from there. A damaged shard or picture is left out, never fatal.
"""

from __future__ import annotations

import json
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.fit.clock import orphaned
from training.fit.config import LOOKS
from training.fit.losses.mesh import USUAL_REGION, region_of
from training.fit.people.older import in_terms_of, told_by
from training.fit.people.variants import Batch

BLOCK = 64
_FACES_FROM = 64  # pixels; enlarged from there, a mesh is two thirds of a pixel at 256 px from what the tracker finds there
Odds = Callable[[Tensor], Tensor]
_PICTURES = {"photo": ("natural", "natural_alpha"), "toon": ("toon", "toon_alpha")}


def resize(picture: np.ndarray, size: int) -> np.ndarray:
    """Pictures with another size than the plan's are resized (area average)."""
    if picture.shape[0] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))


def enlarged(picture: np.ndarray, own: int) -> np.ndarray:
    """A picture that was rendered at `own` pixels and repeated to its present size, smooth instead."""
    if own >= picture.shape[0]:
        return picture
    return np.asarray(Image.fromarray(resize(picture, own)).resize(picture.shape[:2], Image.Resampling.BICUBIC))


def ingest(
    data: Path, cache: Path, size: int, mesh: Path | None, part: int = 0, parts: int = 1, names: Sequence[str] | None = None
) -> None:
    """Endless: decode what is new in `data` into blocks in `cache`. Worker `part` of `parts` takes its share of the people.

    names: the list of features that the networks know, if it is an older one; people whom it cannot tell are left out.
    """
    from training.fit.losses.mesh import MeshFinder
    from training.render.data.dataset import Dataset

    warnings.simplefilter("ignore")  # a damaged shard is mentioned once below, not at every scan
    finder = MeshFinder(mesh) if mesh is not None else None
    cache.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    for path in cache.glob("block-*.npz"):
        try:
            with np.load(path) as block:
                seen.update(int(i) for i in block["index"])
        except Exception:
            path.unlink(missing_ok=True)
    while not orphaned():
        began = time.monotonic()
        try:
            people = Dataset(data)
        except Exception as error:
            print(f"ingest: waiting for {data}: {error}", flush=True)
            time.sleep(3)
            continue
        told = np.ones(len(people.indices), bool)
        if names is not None and len(told):
            told = told_by(names, people.feature_names, torch.from_numpy(people.features)).numpy()
        mine = [i for i, number in enumerate(people.indices) if told[i] and int(number) // 32 % parts == part]
        new = [i for i in mine if int(people.indices[i]) not in seen]
        for start in range(0, len(new), BLOCK):
            rows = new[start : start + BLOCK]
            seen.update(int(people.indices[i]) for i in rows)
            try:
                _write_block(people, rows, size, finder, cache, names)
            except Exception:
                traceback.print_exc()
        people.close()
        if not new:  # opening many shards costs: look again after twenty times as long
            time.sleep(max(3.0, 20 * (time.monotonic() - began)))


def _write_block(people: Any, rows: list[int], size: int, finder: Any, cache: Path, names: Sequence[str] | None = None) -> None:
    looks = [look for look, (picture, _) in _PICTURES.items() if look == "photo" or people.has(rows[0], f"{picture}.jpg")]
    wanted = [name for look in looks for name in _PICTURES[look]]
    kept: dict[str, list[Any]] = {name: [] for name in (*wanted, "features", "index", "size")}
    for i in rows:
        try:
            pictures = {name: np.asarray(getattr(people, name)(i)) for name in wanted}
        except Exception as error:
            print(f"ingest: person {people.indices[i]} is left out: {error}", flush=True)
            continue
        for name, picture in pictures.items():
            kept[name].append(resize(picture, size))
        kept["features"].append(people.features[i])
        kept["index"].append(people.indices[i])
        kept["size"].append(pictures["natural"].shape[0])
    if not kept["index"]:
        return
    block = {key: np.stack(values) for key, values in kept.items()}
    count = len(block["index"])
    if names is not None:
        told = in_terms_of(names, people.feature_names, torch.from_numpy(block["features"]))
        block["features"] = told.numpy()
    # Of those who come in pairs, the low end has the even number, the high end the next one.
    block["partner"] = block["index"] ^ 1 if people.description.get("pairs") else np.full(count, -1, np.int32)
    # Without a network, or in a small picture, there is no mesh, and its score is -1.
    block["mesh"], block["score"] = np.zeros((count, 468, 3), np.float32), np.full(count, -1, np.float32)
    if finder is not None and min(kept["size"]) >= _FACES_FROM:
        block["mesh"], block["score"] = finder(
            np.stack([enlarged(*one) for one in zip(block["natural"], kept["size"], strict=True)])
        )
    name = f"block-{int(block['index'][0]):07d}-{count:03d}"
    unfinished = cache / f".{name}.tmp"
    with unfinished.open("wb") as file:
        np.savez(file, **block)  # type: ignore[arg-type]
    unfinished.rename(cache / f"{name}.npz")


class People:
    """All people so far, as uint8 tensors on `device`; `refresh` adds new blocks.

    natural, toon   uint8 [capacity, size, size, 3]        alpha, toon_alpha   uint8 [capacity, size, size]
    features        float32 [capacity, F]                  mesh    float32 [capacity, 468, 3], 0..1 of the picture
    score           float32 [capacity], of the mesh: below 0 there is none

    Without the look "toon" people count who were rendered without one, and `toon` is `natural`.

    People rendered smaller than `size` are drawn for stages of their size only: they teach cheaply what belongs where.
    The size that each was rendered at is in `sizes`. `pairs` int64 [p, 2] holds the rows of those who come in pairs, the low end
    first, of whom neither is held out.
    """

    def __init__(
        self, cache: Path, size: int, features: int, capacity: int, held_out: int, device: torch.device,
        looks: Sequence[str] = LOOKS,
    ) -> None:  # fmt: skip
        self.cache, self.size, self.capacity, self.held_out, self.device = (
            cache,
            size,
            capacity,
            held_out,
            device,
        )
        self.natural = torch.empty(capacity, size, size, 3, dtype=torch.uint8, device=device)
        self.looks = tuple(looks)
        self.toon = torch.empty_like(self.natural) if "toon" in looks else self.natural
        self.alpha = torch.empty(capacity, size, size, dtype=torch.uint8, device=device)
        self.toon_alpha = torch.empty_like(self.alpha) if "toon" in looks else self.alpha
        self.features = torch.empty(capacity, features, device=device)
        self.mesh = torch.empty(capacity, 468, 3, device=device)
        self.score = torch.empty(capacity, device=device)
        self.count = 0
        self.train = np.zeros(0, np.int64)
        self.test = np.zeros(0, np.int64)
        self._seen = np.zeros(0, bool)
        self._taken: set[str] = set()
        self._numbers: list[int] = []
        self._partners: list[int] = []
        self.pairs = np.zeros((0, 2), np.int64)
        self.sizes = np.zeros(0, np.int64)
        self._drawn_from: dict[tuple[int, Odds | None], tuple[np.ndarray, np.ndarray | None]] = {}  # until there are more

    def refresh(self) -> int:
        """Take up new blocks; returns how many people there are."""
        for path in sorted(self.cache.glob("block-*.npz")):
            if path.name in self._taken:
                continue
            self._taken.add(path.name)
            try:
                with np.load(path, allow_pickle=False) as block:
                    self._add({name: block[name] for name in block.files})
            except Exception as error:
                print(f"{path.name} is left out: {error}", flush=True)
        return self.count

    def _add(self, block: dict[str, np.ndarray]) -> None:
        fresh = np.flatnonzero(~np.isin(block["index"], self._numbers))[: self.capacity - self.count]
        if not len(fresh) or ("toon" in self.looks and "toon" not in block):
            return
        where = slice(self.count, self.count + len(fresh))
        targets = [(self.natural, "natural"), (self.alpha, "natural_alpha"), (self.features, "features"), (self.mesh, "mesh")]
        targets += [(self.score, "score")]
        if "toon" in self.looks:
            targets += [(self.toon, "toon"), (self.toon_alpha, "toon_alpha")]
        for target, name in targets:
            target[where] = torch.from_numpy(np.ascontiguousarray(block[name][fresh])).to(self.device)
        self._numbers += [int(i) for i in block["index"][fresh]]
        partners = block.get("partner", np.full(len(block["index"]), -1))  # blocks of before tell none
        self._partners += [int(i) for i in partners[fresh]]
        self.sizes = np.append(self.sizes, block["size"][fresh])
        self.count = len(self._numbers)
        self._drawn_from.clear()
        numbers, whole = np.array(self._numbers), self.sizes >= self.size
        test = numbers % self.held_out == self.held_out - 1
        self.train, self.test, self._seen = np.flatnonzero(~test & whole), np.flatnonzero(test & whole), ~test
        self.pairs = self._paired()

    def _paired(self) -> np.ndarray:
        row = {number: i for i, number in enumerate(self._numbers)}
        pairs = [(i, row[p]) for i, p in enumerate(self._partners) if p > self._numbers[i] and p in row]
        both = np.array(pairs, np.int64).reshape(-1, 2)
        return both[self._seen[both].all(1)]

    def wait(self, people: int, minutes: float, tick: Callable[[], None] = lambda: None) -> int:
        """Refresh until there are that many people, or some and the minutes are over."""
        end = time.monotonic() + 60 * minutes
        while self.refresh() < people:
            if time.monotonic() > end and len(self.train) and len(self.test):
                break
            if time.monotonic() > end + 60 * minutes + 60:
                raise RuntimeError(f"{self.cache}: expected {people} people within {minutes} minutes, got {self.count}")
            tick()
            time.sleep(1)
        return self.count

    def draw(self, n: int, size: int, odds: Odds | None = None) -> Tensor:
        """Row numbers of n random people to train on at `size` pixels; `odds` [n] of features [n, F]: how often each is drawn."""
        if (size, odds) not in self._drawn_from:
            self._drawn_from[size, odds] = self._eligible(size, odds)
        rows, chances = self._drawn_from[size, odds]
        return torch.from_numpy(np.random.choice(rows, n, replace=len(rows) < n, p=chances)).to(self.device)

    def draw_pairs(self, n: int, size: int) -> Tensor:
        """Row numbers [2 n] of n random pairs to train on at `size` pixels: all low ends, then all high ends."""
        large = self.pairs[(self.sizes[self.pairs] >= size).all(1)]
        chosen = large[np.random.choice(len(large), n, replace=len(large) < n)]
        return torch.from_numpy(chosen.T.flatten()).to(self.device)

    def _eligible(self, size: int, odds: Odds | None) -> tuple[np.ndarray, np.ndarray | None]:
        rows = np.flatnonzero(self._seen & (self.sizes >= size))
        if odds is None:
            return rows, None
        chances = odds(self.features[torch.from_numpy(rows).to(self.device)]).double().cpu().numpy()
        return rows, chances / chances.sum()

    def everyone(self, held_out: bool = False) -> Tensor:
        """Row numbers of all people of any size who are trained on, or of all who are not."""
        return torch.from_numpy(np.flatnonzero(self._seen != held_out)).to(self.device)

    def held_out_rows(self, most: int) -> Tensor:
        """Row numbers of the held-out people."""
        return torch.from_numpy(self.test[:most]).to(self.device)


def picture(stored: Tensor, rows: Tensor, size: int | None = None) -> Tensor:
    """uint8 [.., h, w, 3] -> float32 [n, 3, size, size] in -1..1, averaged down."""
    chosen = stored[rows].permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return chosen if size is None else averaged_down(chosen, size)


def batch(people: People, rows: Tensor, size: int) -> Batch:
    """These people at `size` pixels."""

    def both(of_photo: Tensor, of_toon: Tensor, see: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        seen = see(of_photo)
        return seen, seen if of_toon is of_photo else see(of_toon)

    covers = both(people.alpha, people.toon_alpha, lambda stored: averaged_down(stored[rows][:, None].float() / 255, size))
    photo, toon = both(people.natural, people.toon, lambda stored: picture(stored, rows, size))
    mesh, score = people.mesh[rows], people.score[rows]
    found = (score > 0.5)[:, None]
    usual = mesh.new_tensor(USUAL_REGION).expand(len(rows), 4)
    region = torch.where(found, region_of(torch.where(found[..., None], mesh, torch.rand_like(mesh))), usual)
    return Batch(
        people.features[rows],
        photo,
        toon,
        *covers,
        region=region,
        mesh=mesh,
        found=found[:, 0],
    )


def averaged_down(pictures: Tensor, size: int) -> Tensor:
    """[n, c, h, w] averaged to [n, c, size, size]; a smaller picture stays as it is."""
    return torch.nn.functional.avg_pool2d(pictures, pictures.shape[-1] // size) if size < pictures.shape[-1] else pictures


def description(data: Path, minutes: float) -> dict[str, Any]:
    """dataset.json, waited for."""
    path = data / "dataset.json"
    end = time.monotonic() + 60 * minutes
    while True:
        try:
            described: dict[str, Any] = json.loads(path.read_text())
            return described
        except (OSError, ValueError) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{path}: expected a rendered data set, got none: {error}") from None
            time.sleep(1)
