"""One network in ONNX Runtime on the GPU, in every precision and layout: compared with the CPU, then timed.

"by phases": up-sampling convolutions merged into ordinary ones, ``export/variants/upsampling.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime.backends import onnxruntime_cuda, open_session

from . import networks
from .card import Card
from .measuring import Distance, timed
from .networks import Network
from .turns import Notes

PREPARE_S = 110.0  # references on the CPU stop then; the number of samples is noted
BATCH = 8
LAST = {"layout": "channels_last"}
TF32 = {"precision": "tf32"}


@dataclass(frozen=True)
class Variant:
    """A way to run the network."""

    file: str  # of Network.variants
    batch: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        return str(self.options.get("precision", self.file.split()[0]))

    @property
    def label(self) -> str:
        words = [f"ONNX Runtime CUDA {self.precision}", *(["by phases"] if "phases" in self.file else [])]
        words += ["channels last"] if "layout" in self.options else []
        words += ["no graph"] if "graph" in self.options else []
        return ", ".join([*words, f"batch {self.batch}"])


def wanted(network: str) -> list[Variant]:
    """What is tried: by phases where there is up-sampling; the slow ways at some sizes only."""
    full, tf32, half = Variant("float32"), Variant("float32", 1, TF32), Variant("float16")
    if network in networks.ENCODERS:
        one = [tf32, half, Variant("float16", 1, LAST)]
        if network == "psp":  # e4e's twin in all that takes time
            return one
        eight = [Variant("float32", BATCH, TF32), Variant("float16", BATCH, LAST)]
        return [full, *one, *eight, *([Variant("float16", BATCH)] if network == "e4e" else [])]
    one = [
        tf32,
        Variant("float32 by phases", 1, TF32),
        Variant("float16 by phases"),
        Variant("float16 by phases", 1, LAST),
    ]
    eight = [Variant("float32", BATCH, TF32), Variant("float16 by phases", BATCH, LAST)]
    if network in ("256", "1024"):
        more = [Variant("float16 by phases", BATCH), Variant("float32 by phases", BATCH, TF32)]
        return [full, half, *one, *eight, *more]
    return [full, *one, *eight]


def run(notes: Notes, rehearse: bool, network: str) -> None:
    start = time.monotonic()
    card = Card()
    subject = load(network, rehearse)
    moved_gb = (subject.counted.weight_bytes + subject.counted.activation_bytes) / 1e9
    notes.add(
        "network",
        network=subject.name,
        gflop=round(2 * subject.counted.multiply_adds / 1e9, 2),
        least_gb=round(moved_gb, 4),  # float32 weights and maps, each read and written once
    )
    folder = notes.folder / "onnx" / network
    folder.mkdir(parents=True, exist_ok=True)
    variants = wanted(network)
    for n in sorted({1, *(variant.batch for variant in variants)}):
        for name, data in subject.variants(n):
            file_of(folder, name, n).write_bytes(data)
    references, wild = _references(subject, file_of(folder, "float32", 1), start, 8 if rehearse else None)
    notes.wait_for_turn()
    for variant in variants:
        notes.attempt(
            f"{subject.name}, {variant.label}",
            _measuring(notes, subject, variant, folder, references, wild, card, rehearse),
        )
    if network == "1024" and not rehearse:
        for variant in (Variant("float32", 1, TF32), Variant("float16 by phases", 1, LAST)):
            notes.attempt("kernels", _kernels(notes, subject, variant, folder))


def file_of(folder: Path, name: str, batch: int) -> Path:
    return folder / f"{name.replace(' ', '-')}-{batch}.onnx"


def load(network: str, rehearse: bool) -> Network:
    if network == "demo":
        return networks.demo_generator()
    if network in networks.ENCODERS:
        return networks.encoder(network, rehearse)
    return networks.generator(int(network), rehearse)


def open_on_gpu(path: Path, rehearse: bool, **options: Any) -> onnxruntime_cuda.CudaSession:
    """A session on the GPU; in a rehearsal the same session on the CPU."""
    if rehearse:
        session = onnxruntime_cuda.create_session(path, 1, ("CPUExecutionProvider", {}), whole=True)
        return onnxruntime_cuda.CudaSession(path.name, session, "rehearsal on the CPU", "cpu")
    return onnxruntime_cuda.open(path, **options)


def _references(
    subject: Network, file: Path, start: float, samples: int | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the CPU computes in float32, for the samples and for codes far out."""
    session = open_session(file, backend="onnxruntime", threads=4)
    wild = [_one(session, subject, code) for code in subject.wild]
    references: list[np.ndarray] = []
    for sample in subject.samples[:samples]:
        if time.monotonic() - start > PREPARE_S and len(references) >= BATCH:
            break
        references.append(_one(session, subject, sample))
    session.close()
    return references, wild


def _one(session: Any, subject: Network, sample: np.ndarray) -> np.ndarray:
    result: np.ndarray = session.run({subject.input: sample[None]})[subject.output]
    return result


def _measuring(
    notes: Notes,
    subject: Network,
    variant: Variant,
    folder: Path,
    references: Sequence[np.ndarray],
    wild: Sequence[np.ndarray],
    card: Card,
    rehearse: bool,
) -> Callable[[], None]:
    def work() -> None:
        free = card.used_mb()
        began = time.monotonic()
        session = open_on_gpu(file_of(folder, variant.file, variant.batch), rehearse, **variant.options)
        opened_s = round(time.monotonic() - began, 2)
        try:
            if variant.batch > 1:
                figures = _check_batch(session, subject, variant.batch, references)
            else:
                figures = _check(session, subject, subject.samples, references)
            notes.add("check", network=subject.name, how=variant.label, **figures)
            if variant.batch == 1 and wild:
                figures = _check(session, subject, subject.wild, wild)
                notes.add("overflow", network=subject.name, how=variant.label, **figures)
            row = _time(session, subject, variant.batch, card, rehearse)
            taken = card.used_mb()
            memory_mb = None if free is None or taken is None else round(taken - free)
            notes.add(
                "time",
                network=subject.name,
                how=variant.label,
                computes=session.backend,
                batch=variant.batch,
                precision=variant.precision,
                memory_mb=memory_mb,
                opened_s=opened_s,
                **row,
            )
        finally:
            session.close()

    return work


def _check(
    session: Any, subject: Network, samples: np.ndarray, references: Sequence[np.ndarray]
) -> dict[str, Any]:
    distance = Distance()
    for sample, reference in zip(samples, references, strict=False):
        distance.add(reference, _one(session, subject, sample))
    return distance.figures(subject.image)


def _check_batch(session: Any, subject: Network, n: int, references: Sequence[np.ndarray]) -> dict[str, Any]:
    distance = Distance()
    for first in range(0, len(references) - n + 1, n):
        feeds = {subject.input: np.ascontiguousarray(subject.samples[first : first + n])}
        got = session.run(feeds)[subject.output]
        for one, reference in zip(got, references[first : first + n], strict=True):
            distance.add(reference, one[None])
    return distance.figures(subject.image)


def _time(session: Any, subject: Network, n: int, card: Card, rehearse: bool) -> dict[str, Any]:
    """On the GPU alone, and with the copies to and from the CPU that a caller sees."""
    feeds = {subject.input: np.ascontiguousarray(subject.samples[:n])}
    out = {spec.name: np.empty(spec.shape, spec.dtype) for spec in session.outputs}
    brief: dict[str, Any] = {"seconds": 0.05, "least": 3} if rehearse else {}
    session.run(feeds, out)
    alone = timed(session.compute, card, **brief)
    whole = timed(lambda: session.run(feeds, out), card, **(brief or {"seconds": 0.15, "least": 40}))
    return {**alone, "with_copies_ms": whole["median_ms"], "with_copies_p99_ms": whole["p99_ms"]}


def _kernels(notes: Notes, subject: Network, variant: Variant, folder: Path) -> Callable[[], None]:
    """Where the time goes: the longest kernels of one run without a graph."""

    def work() -> None:
        import torch
        from torch.profiler import ProfilerActivity, profile

        torch.zeros(1, device="cuda")
        options = {**variant.options, "graph": False}
        session = onnxruntime_cuda.open(file_of(folder, variant.file, variant.batch), **options)
        session.run({subject.input: subject.samples[:1]})
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            session.compute()
            torch.cuda.synchronize()
        rows = [
            (event.key[:120], event.count, round(event.device_time_total / 1e3, 4))
            for event in profiler.key_averages()
        ]
        rows.sort(key=lambda row: -row[2])
        total_ms = round(sum(row[2] for row in rows), 3)
        notes.add("kernels", network=subject.name, how=variant.label, total_ms=total_ms, longest=rows[:16])
        session.close()

    return work
