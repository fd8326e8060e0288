"""How the time grows with resolution, faces, batch and threads; and two ideas that should save some.

    python -m benchmarks.growth [--quick] [--bundle demo] [--out out/growth]

Every point is checked first: a batch of n against n single runs, n faces by n ids that stay, a generator of
each size against the original formulation. Then all points of a curve are timed in turns, so a ratio to the
first point is the median of pairs. Writes growth.md, growth.json and growth.png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from doppelgan.runtime.backends import Session, open_session
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.drift import measure
from doppelgan.runtime.errors import ParityError
from doppelgan.runtime.host.machine import load_average, this_machine, versions
from doppelgan.runtime.measure.autotune import usable_backends
from doppelgan.runtime.measure.bench import commit
from doppelgan.runtime.measure.network_inputs import sample_inputs
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.synthesize import Synthesizer
from doppelgan.runtime.types import Floats, Image

from .common import Row, header, publish, time_rows
from .counting import count
from .curves import Growth, Panel, Ratio, curve, draw, page
from .face_frames import (
    MARGIN,
    SETTLED,
    Averaged,
    Together,
    check_faces,
    clip,
    face_box,
    face_tiles,
    faces_frame,
    frame_run,
    network,
    psnr,
    settle,
    stage_table,
)
from .reshaped import batched, sides, stopped_at

THIN = 4  # config-f's channels over this, so that 1024 px finish in a second
SIZES = (128, 256, 512, 1024)
BATCHES = (1, 2, 4, 8)
FACES = (1, 2, 3, 4)
TILE_PX = 320  # of one face in the frame: four side by side
BOUND = 1e-4  # relative L2 between two float32 computations of the same
INTRO = """Time per picture or per 1280x720 frame, the face of the bundle's clip pasted side by side.
Medians, with the shortest and p95 beside them; "x first" is a point's time over the first point's, median and
quartiles of pairs of one round. Something pays or costs if it changes the time by more than 5 % and does so
in three rounds of four. Everything is float32. In the picture thin lines go from the shortest to p95, and a
dashed line is what the multiply-adds alone would make of the first point. Other figures and how they are
taken: [performance](performance.md).
"""

Codes = Floats  # [N, n_styles, w_dim]
Original = Callable[[int, Codes], Floats]  # side, codes -> pictures


@dataclass(frozen=True)
class Scope:
    """How much is measured, and with what."""

    bundle: str
    backend: str  # of whole frames
    backends: tuple[str, ...]  # of networks alone
    folder: Path  # for networks under test
    quick: bool

    def rounds(self, full: int) -> int:
        return max(4, full // 10) if self.quick else full

    @property
    def faces(self) -> tuple[int, ...]:
        return FACES[::3] if self.quick else FACES

    def open(self, data: bytes, backend: str, threads: int | None = None) -> Session:
        path = self.folder / f"{len(list(self.folder.glob('*.onnx')))}.onnx"
        path.write_bytes(data)
        return open_session(path, backend=backend, threads=threads)

    def serving(self, network: str, batch: bool = False) -> tuple[str, ...]:
        """Backends that take this network: the native one is made for single codes of generators."""
        native = network != "encoder" and not batch
        return tuple(backend for backend in self.backends if native or backend != "native")

    def clip(self) -> list[Image]:
        return clip(self.bundle, 2 * SETTLED if self.quick else 5 * SETTLED)


@dataclass(frozen=True)
class Case:
    """One generator for the curve over resolutions."""

    data: bytes
    sides: Sequence[int]
    codes: Codes
    original: Original | None = None  # None: compared between backends only


def resolution(scope: Scope) -> Panel:
    """A config-f generator, and the bundle's, stopped at each of their resolutions."""
    cases = {} if scope.quick else {f"config-f / {THIN}": config_f(SIZES)}
    with open_bundle(scope.bundle, backend="onnxruntime") as bundle:
        photo = bundle.manifest.generators["photo"]
        data = network(bundle, photo)
        cases[bundle.manifest.name] = Case(
            data, sides(data)[-3:], sample_inputs(bundle, photo, 1)[0]["codes"]
        )

    worst, groups = 0.0, []
    for label, case in cases.items():
        nets = [stopped_at(case.data, side) for side in case.sides]
        wanted = {} if case.original is None else {s: case.original(s, case.codes) for s in case.sides}
        for backend in scope.backends:
            rows = []
            for side, net in zip(case.sides, nets, strict=True):
                session = scope.open(net, backend)
                got = session.run({"codes": case.codes})["image"]
                reference = wanted.setdefault(side, got)
                worst = max(worst, agree(f"{label} {side} px, {backend}", reference, got))
                rows.append((side, row(session, {"codes": case.codes})))
            counts = [count(GraphEditor(net)).multiply_adds for net in nets]
            groups.append((f"{label}, {backend}", rows, counts))
    time_rows([r for _, rows, _ in groups for _, r in rows], scope.rounds(12))
    curves = tuple(curve(label, rows, multiply_adds=counts) for label, rows, counts in groups)
    findings = []
    for c in curves:
        first, last = c.points[0], c.points[-1]
        work = (last.multiply_adds or 0) / (first.multiply_adds or 1)
        stops = ", ".join(f"at {p.x} px {last.ratio.median / p.ratio.median:.1f}x" for p in c.points[:-1])
        findings.append(
            f"{c.label}: from {first.x} to {last.x} px the multiply-adds grow {work:.1f}x, the time "
            f"{last.ratio.median:.1f}x. Stopped {stops} faster than at {last.x} px."
        )
    originals = "" if scope.quick else f"each size of config-f / {THIN} against the original formulation, "
    return Panel(
        "Resolution", "resolution, px", "picture", curves,
        f"{originals}each backend against the first: relative L2 at most {worst:.1g}.",
        findings=tuple(findings),
    )  # fmt: skip


def faces(scope: Scope) -> Panel:
    """Whole frames with several faces: one face after the other, and each network once for all of them."""
    tiles = face_tiles(scope.bundle, scope.clip(), TILE_PX)
    labels = ("one after the other", "all at once")
    pipelines: list[Pipeline] = []
    rows: list[Row] = []
    worst = 0
    with open_bundle(scope.bundle, backend=scope.backend) as bundle:
        encode, draw = network(bundle, "encoder"), network(bundle, bundle.manifest.generators["photo"])
        per_face = sum(
            count(GraphEditor(data)).multiply_adds for data in (encode, draw, network(bundle, "landmarks"))
        )
        for n in scope.faces:
            frames = [faces_frame(tiles, n, i) for i in range(len(tiles))]
            both = [
                Pipeline(bundle, composite="face", max_faces=n),
                Together(bundle, *(scope.open(batched(data, n), scope.backend) for data in (encode, draw))),
            ]
            worst = max(worst, check_faces(both[0], both[1], frames, n))
            for pipeline in both:
                pipeline.clock.reset()
                pipelines.append(pipeline)
                rows.append(Row("", frame_run(pipeline, frames)))
        time_rows(rows, scope.rounds(60))
        stages = stage_table([f"{n} {label}" for n in scope.faces for label in labels], pipelines)
    work = [n * per_face for n in scope.faces]
    curves = tuple(
        curve(label, list(zip(scope.faces, rows[i::2], strict=True)), multiply_adds=work)
        for i, label in enumerate(labels)
    )
    ratios = [paired(new, old) for old, new in zip(rows[::2], rows[1::2], strict=True)]
    first, last = curves[0].points[0].time.median_ms, curves[0].points[-1].time.median_ms
    findings = [
        f"Each further face adds {(last - first) / (scope.faces[-1] - 1):.1f} ms to the first's {first:.1f}.",
        f"One face, where both ways do the same: {ratios[0]}; less than that is noise.",
        *(
            f"Batching the {n} faces of a frame {ratio.verdict()}."
            for n, ratio in zip(scope.faces[1:], ratios[1:], strict=True)
        ),
    ]
    return Panel(
        "Faces in a frame", "faces", "frame", curves,
        f"n faces: n ids that stay for {SETTLED} frames; both ways make the same, within {worst} of 255.",
        tables=(stages, stopping(scope)),
        findings=tuple(findings),
    )  # fmt: skip


def batch(scope: Scope) -> Panel:
    """Encoder and generator with several inputs in one run."""
    groups, worst = [], 0.0
    with open_bundle(scope.bundle, backend="onnxruntime") as bundle:
        for name in ("encoder", bundle.manifest.generators["photo"]):
            data = network(bundle, name)
            work = [count(GraphEditor(data)).multiply_adds] * len(BATCHES)
            feeds = sample_inputs(bundle, name, BATCHES[-1])
            output = bundle.session(name).outputs[0].name
            for backend in scope.serving(name, batch=True):
                single = scope.open(data, backend)
                wanted = np.concatenate([single.run(one)[output].copy() for one in feeds])
                rows = []
                for n in BATCHES:
                    session = scope.open(batched(data, n), backend)
                    joined = {key: np.concatenate([one[key] for one in feeds[:n]]) for key in feeds[0]}
                    got = session.run(joined)[output]
                    worst = max(worst, agree(f"{name}, batch {n}, {backend}", wanted[:n], got))
                    rows.append((n, row(session, joined)))
                groups.append((f"{name}, {backend}", rows, work))
    time_rows([r for _, rows, _ in groups for _, r in rows], scope.rounds(24))
    curves = tuple(curve(label, rows, BATCHES, work) for label, rows, work in groups)
    findings = []
    for c in curves:
        best = min(c.points, key=lambda point: point.ratio.median)
        findings.append(
            f"{c.label}: a batch of {c.points[-1].x} {c.points[-1].ratio.verdict()}"
            + (
                f"; the best is {best.x}, {1 / best.ratio.median:.2f}x."
                if best.x > 1
                else "; one at a time is best."
            )
        )
    return Panel(
        "Batch", "inputs in one run", "picture", curves,
        f"n at once against n single runs: relative L2 at most {worst:.1g}.",
        findings=tuple(findings),
    )  # fmt: skip


def threads(scope: Scope) -> Panel:
    """Networks alone and whole frames, with every number of threads per network."""
    counts = thread_counts(this_machine().cores)
    groups: list[tuple[str, list[tuple[int, Row]]]] = []
    worst, frames = 0.0, scope.clip()
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(scope.bundle, backend="onnxruntime"))
        for name in ("encoder", bundle.manifest.generators["photo"]):
            data, (feeds, *_) = network(bundle, name), sample_inputs(bundle, name, 1)
            output = bundle.session(name).outputs[0].name
            for backend in scope.serving(name):
                sessions = [scope.open(data, backend, threads=n) for n in counts]
                results = [session.run(feeds)[output].copy() for session in sessions]
                worst = max(worst, *(agree(f"{name}, {backend}", results[0], got) for got in results))
                rows = [(n, row(session, feeds)) for n, session in zip(counts, sessions, strict=True)]
                groups.append((f"{name}, {backend}", rows))
        whole = []
        for n in counts:
            opened = stack.enter_context(open_bundle(scope.bundle, backend=scope.backend, threads=n))
            pipeline = Pipeline(opened, composite="face")
            settle(pipeline, frames, 1)
            whole.append((n, Row("", frame_run(pipeline, frames))))
        groups.append((f"whole frame, {scope.backend}", whole))
        time_rows([r for _, rows in groups for _, r in rows], scope.rounds(48))
    curves = tuple(curve(label, rows) for label, rows in groups)
    return Panel(
        "Threads", "threads per network", "picture or frame", curves,
        f"every number of threads gives the same: relative L2 at most {worst:.1g}; frames have their face.",
        findings=tuple(
            f"{c.label}: {p.x} threads {p.ratio.verdict()}." for c in curves for p in c.points[1:]
        ),
    )  # fmt: skip


def stopping(scope: Scope) -> str:
    """Frames with a small face, the generator stopped at the resolution that the face has there."""
    lines = [
        "**Stopping early**: the generator ends at the first resolution that is at least the side of the "
        "face's aligned square in the frame (every resolution has an RGB sum). Loss: PSNR of the pasted face "
        "against the full picture averaged down to that resolution before pasting. The control, where "
        "both are the same network, shows the noise: time of the second over the first, with quartiles.",
        "",
        "| face's square px | stopped at px | full ms / frame | stopped | outcome | full dB | stopped dB |",
        "|--:|--:|--:|--:|---|--:|--:|",
    ]
    with open_bundle(scope.bundle, backend=scope.backend) as bundle:
        data, whole = network(bundle, bundle.manifest.generators["photo"]), bundle.image_size
        for square in (whole * 7 // 8, whole // 2, whole // 4):
            side = next(s for s in sides(data) if s >= square)
            tiles = face_tiles(scope.bundle, scope.clip(), round(square * MARGIN))
            frames = [faces_frame(tiles, 1, i) for i in range(len(tiles))]
            full, ideal, stopped = (Pipeline(bundle, composite="face") for _ in range(3))
            ideal._synthesize = Averaged(bundle.generator(), side)  # type: ignore[assignment]
            stopped._synthesize = Synthesizer(scope.open(stopped_at(data, side), scope.backend))
            try:
                settled = [settle(pipeline, frames, 1) for pipeline in (full, ideal, stopped)]
            except ParityError:
                lines.append(f"| {square} | {side} | - | - | no face is found at this size | - | - |")
                continue
            box = face_box(full)
            as_is, wanted, early = ([frame[box] for frame in series] for series in settled)
            rows = [Row("", frame_run(pipeline, frames)) for pipeline in (full, stopped)]
            time_rows(rows, scope.rounds(48))
            ratio = paired(rows[1], rows[0])
            lines.append(
                f"| {square} | {side} | {rows[0].median_ms:.2f} | {rows[1].median_ms:.2f} | "
                f"{ratio.verdict() if side < whole else f'control: {ratio}'} | "
                f"{psnr(wanted, as_is):.1f} | {psnr(wanted, early):.1f} |"
            )
    return "\n".join(lines)


def config_f(wanted: Sequence[int]) -> Case:
    """A thin generator by the project's own export, with its original at any side."""
    import torch
    from doppelgan.export.checkpoints.tensors import TensorTable
    from doppelgan.export.networks.stylegan2 import Synthesis, from_rosinality
    from doppelgan.export.onnx_files.onnx_graph import to_onnx

    from tests.export import seeds

    from .original_stylegan2 import OriginalSynthesis
    from .stylegan2_1024 import RGB_SCALE

    def state(side: int) -> dict[str, torch.Tensor]:
        channels = {key: width // THIN for key, width in seeds.CONFIG_F.items() if key <= side}
        return {
            key: value * RGB_SCALE if "to_rgb" in key and key.endswith("conv.weight") else value
            for key, value in seeds.rosinality(channels, 512, 2).items()
        }

    def original(side: int, codes: Codes) -> Floats:
        # Weights are drawn by name: a smaller generator is the first part of a larger one.
        tensors = {key: value for key, value in state(side).items() if not key.startswith("style.")}
        with torch.inference_mode():
            pictures: Floats = OriginalSynthesis(tensors).eval()(torch.from_numpy(codes)).numpy()
        return pictures

    weights = from_rosinality(TensorTable(state(max(wanted)), "generator", "seeded fill"))
    codes = 0.5 * torch.randn(1, weights.n_styles, 512, generator=torch.Generator().manual_seed(0))
    data = to_onnx(Synthesis(weights).eval(), {"codes": codes}, ["image"])
    return Case(data, wanted, codes.numpy(), original)


def row(session: Session, feeds: dict[str, Any]) -> Row:
    """One run into buffers that are there already."""
    out = {spec.name: np.empty(spec.shape, spec.dtype) for spec in session.outputs}
    return Row("", lambda _: next(iter(session.run(feeds, out).values())))


def agree(what: str, wanted: Floats, got: Floats) -> float:
    """Relative L2 between two computations of the same. Raises ParityError past BOUND."""
    if wanted.shape != got.shape:
        raise ParityError(f"{what}: expected {list(wanted.shape)}, got {list(got.shape)}")
    drift = measure([wanted], [got], image=False)
    if drift.relative_l2 > BOUND:
        raise ParityError(f"{what}: expected the same within {BOUND:.0e}, got {drift}")
    return drift.relative_l2


def paired(new: Row, old: Row) -> Ratio:
    return Ratio.of(new.times_ms, old.times_ms)


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4 ... and all cores."""
    return sorted({1 << i for i in range(cores.bit_length()) if 1 << i <= cores} | {cores})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: few rounds, one backend, no export"
    )
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--backend", help="of whole frames; default: openvino where it is installed")
    parser.add_argument("--out", type=Path, default=Path("out/growth"), help="folder")
    options = parser.parse_args()
    backends = tuple(usable_backends())
    backend = options.backend or ("openvino" if "openvino" in backends else backends[0])
    if options.quick:
        backends = (backend,)
    command = f"python -m benchmarks.growth{' --quick' if options.quick else ''} --bundle {options.bundle}"
    head, load = header("Growth" + (", a quick look" if options.quick else ""), command), load_average()
    panels = []
    with tempfile.TemporaryDirectory() as folder:
        scope = Scope(options.bundle, backend, backends, Path(folder), options.quick)
        for measured in (resolution, faces, batch, threads):
            start = time.perf_counter()
            panels.append(measured(scope))
            print(f"{panels[-1].name}: {time.perf_counter() - start:.0f} s", flush=True)
    found = Growth(
        time.strftime("%Y-%m-%d %H:%M"), commit(), command, this_machine(), versions(), load, tuple(panels)
    )
    text = [head, INTRO, "![Growth curves](growth.png)", *(page(panel) for panel in panels)]
    publish("\n\n".join(part.strip() for part in text), options.out / "growth.md")
    (options.out / "growth.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    draw(panels, options.out / "growth.png")


if __name__ == "__main__":
    main()
