"""`python -m training.fit --data DIR --out DIR --minutes M`: everything, unattended, within the budget.

Runs several processes: ingestion (decodes what the renderer has written so far), the generator's training, beside it the
encoder's, and last a regressor's (the judge of edits, for the evaluation). Each saves its state every minute;
one that dies is started again and resumes; so does the whole command when
it is repeated with the same `--out`. `OUT/pack` always holds the newest small files that are worth keeping.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import multiprocessing.process
import os
import shutil
import signal
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.fit.clock import Budget
from training.fit.config import PLANS, Plan
from training.fit.lessons import encoder, generator, regressor
from training.fit.people import data
from training.fit.people.features import FeatureCodec

_RESTARTS = 4
# On CPUs a step allocates and frees gigabytes: kept by the process they need not be mapped again (a fifth of the time).
_ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 33),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
_CLOSING_SECONDS = 12.0  # kept back for the last save and figures

Process = multiprocessing.process.BaseProcess


def main() -> int:
    arguments = _parse()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "sheets").mkdir(exist_ok=True)
    for name, value in _ALLOCATION.items():
        os.environ.setdefault(name, value)
    plan = PLANS[arguments.plan]
    began = time.time()
    end = began + 60 * arguments.minutes
    codec_path = out / "features.npz"
    rendered = tuple(data.description(arguments.data[0], plan.wait_minutes)["features"])
    if not codec_path.exists() and arguments.start is not None:
        begun = FeatureCodec.load(arguments.start / "features.npz")
        if begun.names == rendered or not plan.generator.mapping_share:
            begun.widened(plan.generator.w_dim).save(codec_path)
        else:
            print(f"{arguments.data[0]} tells other features than {arguments.start}: the mapping network learns them", flush=True)
    if not codec_path.exists():
        codec = measure_features(arguments.data[0], plan)
        codec.save(codec_path)
        print(f"{codec.count} features, {len(codec.columns('motion'))} of them motion", flush=True)

    known = FeatureCodec.load(codec_path).names
    names = None if known == rendered else known
    if names is not None:
        print(f"people are told in the {len(names)} features that {arguments.start or out} knows", flush=True)

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    cache = arguments.cache or out / "cache"
    mesh = arguments.mesh
    print(f"plan {arguments.plan}, {arguments.minutes} minutes on {device}, mesh network {mesh}", flush=True)
    last = end - min(_CLOSING_SECONDS, 6 * arguments.minutes)
    half = last if arguments.only == "generator" else began + plan.generator_share * (last - began)
    jobs: dict[str, Callable[[], Process]] = {}
    workers = arguments.ingest_workers
    for folder, part in itertools.product(arguments.data, range(workers)):
        jobs[f"ingest-{folder.name}-{part}"] = _job(_ingest, folder, cache, plan.size, mesh, part, workers, names)
    if arguments.only != "encoder":
        jobs["generator"] = _job(
            _generator, plan, out, cache, mesh, began, half, device, arguments.seed, arguments.start, arguments.sketches,
            arguments.rehearse or arguments.start,
        )  # fmt: skip
    if arguments.only != "generator":
        jobs["encoder"] = _job(_encoder, plan, out, cache, mesh, began, last, device, arguments.seed, arguments.start)
    if arguments.only is None:
        jobs["regressor"] = _job(_regressor, plan, out, cache, half, last, device, arguments.seed)
    return _watch(jobs, out, end)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.fit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        help="folders that training.render writes into (may still grow);\nsmall renders serve the stages of their size",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for networks, logs and sheets; an old one is resumed")
    parser.add_argument("--minutes", type=float, required=True, help="wall-clock budget of the whole command")
    parser.add_argument("--plan", choices=PLANS, default="demo")
    parser.add_argument("--start", type=Path, help="begin with the networks in this folder, as `training.from_bundle` writes it")
    parser.add_argument(
        "--sketches", type=Path, help="folder of training.render.sketch: many more people for the mapping network"
    )
    parser.add_argument(
        "--rehearse",
        type=Path,
        help="folder with the generator whose people are rehearsed, if the plan does that; default: that of --start",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is one")
    parser.add_argument("--mesh", type=Path, help="face-mesh network (landmarks.onnx); default: the one of engines/demo")
    parser.add_argument("--no-mesh", action="store_true", help="train without face meshes (smoke tests)")
    parser.add_argument("--cache", type=Path, help="folder for decoded people; default: OUT/cache")
    parser.add_argument("--only", choices=("generator", "encoder"))
    parser.add_argument("--ingest-workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.mesh is None and not arguments.no_mesh:
        arguments.mesh = Path(__file__).parents[2] / "engines" / "demo" / "landmarks.onnx"
    if arguments.mesh is not None and not arguments.mesh.exists():
        parser.error(f"--mesh: {arguments.mesh} is not there; name the tracker's landmarks.onnx, or say --no-mesh")
    return arguments


def measure_features(folder: Path, plan: Plan) -> FeatureCodec:
    """Statistics of the feature vectors: of what is rendered, and of what the renderer will draw if it draws these features."""
    described = data.description(folder, plan.wait_minutes)
    names, groups = described["features"], described["groups"]
    codec = FeatureCodec(names, groups, plan.generator.w_dim)
    from training.render.data.dataset import Dataset
    from training.render.person import features

    if tuple(names) == features.FEATURES:
        return codec.fit(_of_people_to_come())
    end = time.monotonic() + 60 * plan.wait_minutes
    while len(people := Dataset(folder)) < plan.start_people and time.monotonic() < end:
        time.sleep(2)
    return codec.fit(people.features)


@cache
def _of_people_to_come() -> np.ndarray:
    """Features of people as the renderer will draw them [2500, F]: the same ones every time, some ms each."""
    from training.render.person import features, sampling

    drawn = np.stack([features.encode(sampling.sample_person(10_000_000 + i)) for i in range(2500)])
    drawn.flags.writeable = False
    return drawn


# -- processes -------------------------------------------------------------------------------------------------------------


def _job(target: Callable[..., None], *arguments: Any) -> Callable[[], Process]:
    return lambda: multiprocessing.get_context("spawn").Process(target=target, args=arguments, name=target.__name__)


def _prepare(device: str, threads: int | None = None) -> torch.device:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads or (1 if device == "cuda" else os.cpu_count() or 1))
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    return torch.device(device)


def _ingest(*arguments: Any) -> None:
    _prepare("cpu", 1)
    data.ingest(*arguments)


def _generator(
    plan: Plan, out: Path, cache: Path, mesh: Path | None, begin: float, end: float, device: str, seed: int, start: Path | None,
    sketches: Path | None, rehearsed: Path | None,
) -> None:  # fmt: skip
    generator.run(plan, out, cache, Budget(begin, end), _prepare(device), seed, mesh, start, sketches, rehearsed)


def _encoder(
    plan: Plan, out: Path, cache: Path, mesh: Path | None, begin: float, end: float, device: str, seed: int, start: Path | None
) -> None:
    encoder.run(plan, out, cache, mesh, Budget(begin, end), _prepare(device), seed, start)


def _regressor(plan: Plan, out: Path, cache: Path, begin: float, end: float, device: str, seed: int) -> None:
    regressor.run(plan, out, cache, Budget(begin, end), _prepare(device), seed)


def _watch(jobs: dict[str, Callable[[], Process]], out: Path, end: float) -> int:
    """Start all jobs, start again those that fail, stop when the trainers are done. 0 if both ended well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    running = {name: make() for name, make in jobs.items()}
    failures = dict.fromkeys(jobs, 0)
    trainers = [name for name in jobs if not name.startswith("ingest")]
    try:
        for process in running.values():
            process.start()
        packed = time.monotonic()
        while any(running[name].is_alive() or running[name].exitcode != 0 for name in trainers):
            time.sleep(0.5)
            for name, process in running.items():
                if process.is_alive() or process.exitcode == 0:
                    continue
                failures[name] += 1
                print(f"{name} ended with code {process.exitcode} (time {failures[name]})", flush=True)
                if failures[name] > _RESTARTS or time.time() > end:
                    if name in trainers:
                        trainers.remove(name)
                        jobs.pop(name, None)
                    running[name] = _Done()  # type: ignore[assignment]
                    continue
                running[name] = jobs[name]()
                running[name].start()
            if time.monotonic() - packed > 30:
                pack(out)
                packed = time.monotonic()
            if time.time() > end + 60:
                print("over budget: stopping", flush=True)
                break
    finally:
        for process in running.values():
            if process.is_alive():
                process.terminate()
        for process in running.values():
            process.join(5)
        pack(out)
    good = all(running[name].exitcode == 0 for name in trainers) and bool(trainers)
    print("finished" if good and max(failures.values()) <= _RESTARTS else "finished with failures", flush=True)
    return 0 if good else 1


class _Done:
    exitcode = 0

    def is_alive(self) -> bool:
        return False

    def join(self, _: float) -> None:
        pass


def pack(out: Path) -> None:
    """Copy what is worth keeping into OUT/pack: the network files, and logs and sheets as one report.zip."""
    unfinished = f".{os.getpid()}"  # two commands may share OUT
    try:
        folder = out / "pack"
        folder.mkdir(exist_ok=True)
        for name in ("generator-photo.pt", "generator-toon.pt", "encoder.pt", "regressor.pt", "features.npz"):
            if (out / name).exists():
                shutil.copyfile(out / name, folder / f".{name}{unfinished}")
                (folder / f".{name}{unfinished}").replace(folder / name)
        with zipfile.ZipFile(folder / f".report.zip{unfinished}", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted([*out.glob("log-*.jsonl"), *(out / "sheets").glob("*.png")]):
                archive.write(path, path.relative_to(out))
            archive.writestr("files.json", json.dumps({p.name: p.stat().st_size for p in folder.iterdir()}))
        (folder / f".report.zip{unfinished}").replace(folder / "report.zip")
    except Exception:
        traceback.print_exc()
