"""A picture and its edit from one generator: in one pass, against two runs; and no finer than needed.

    python -m benchmarks.pair [--bundle demo] [--side 1024] [--rounds 9] [--threads 2] [--output page.md]

Two generators: the bundle's own, with every one of its edits, and a config-f one of ``--side`` px with seeded
weights (a fill of the real shapes; ``--side 0`` leaves it out, ``--thin`` divides its channels). Checked
first: one pass gives the bits of two runs. "dB" compares edited - plain at a smaller size with the full
difference averaged down to that size (peak to peak 2, RGB -1..1). A seeded generator's fine layers are as
strong as its coarse ones, which no trained one's are: how much a smaller size loses is told by the bundle's
own generator, at the same share of its side. Then all rows are timed in turns; a
speed-up is the median over rounds of a ratio within one round.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime.backends import GeneratorSession, Session, open_session
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.edit import Editor
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure.autotune import usable_backends
from doppelgan.runtime.synthesize import Synthesizer
from doppelgan.runtime.types import Floats

from .common import Row, header, publish, speedup, time_rows

PEOPLE = 6  # of the bundle's samples, for how fine an edit is
SMALLER = (256, 128)  # of a config-f generator; of a bundle's, its half and its quarter


def averaged(picture: Floats, size: int) -> Floats:
    parts = picture.shape[-1] // size
    return picture.reshape(3, size, parts, size, parts).mean(axis=(2, 4))


def decibels(synthesizer: Synthesizer, codes: Floats, edited: Floats, size: int) -> float:
    """The difference at ``size`` against the full one averaged down to it."""
    plain, other = synthesizer.pair(codes, edited)
    whole = averaged(other - plain, size)
    plain, other = synthesizer.pair(codes, edited, size)
    error = float(np.square(other - plain - whole).mean())
    return 10 * np.log10(4 / error) if error > 0 else np.inf


def check(session: Session, codes: Floats, edited: Floats) -> None:
    """One pass gives the bits of two runs; SystemExit otherwise."""
    synthesizer = Synthesizer(session)
    want = [synthesizer(one).copy() for one in (codes, edited)]
    if not np.array_equal(synthesizer.pair(codes, edited), want):
        raise SystemExit(f"{session.backend}: one pass differs from two runs")


def rows_for(
    label: str, session: Session, codes: Floats, edits: dict[str, Floats], smaller: Sequence[int]
) -> list[Row]:
    """Two runs of every kind of edit's first, then one pass for each, then smaller ones."""
    synthesizer = Synthesizer(session)

    def twice(edited: Floats) -> Callable[[int], Any]:
        return lambda _: (synthesizer(codes), synthesizer(edited))

    def pair(edited: Floats, size: int | None = None) -> Callable[[int], Any]:
        return lambda _: synthesizer.pair(codes, edited, size)

    (first, *_) = edits
    rows = [Row(f"{label}: two runs", twice(edits[first]))]
    for name, edited in edits.items():
        check(session, codes, edited)
        rows.append(Row(f"{label}: one pass, {name}", pair(edited)))
    for size in smaller:
        loss = decibels(synthesizer, codes, edits[first], size)
        rows.append(Row(f"{label}: one pass at {size} px, {first} ({loss:.1f} dB)", pair(edits[first], size)))
    return rows


def table(groups: Sequence[Sequence[Row]]) -> str:
    lines = ["| how | median ms | min ms | max ms | x two runs |", "|---|--:|--:|--:|--:|"]
    for rows in groups:
        for row in rows:
            times = f"{row.median_ms:.1f} | {min(row.times_ms):.1f} | {max(row.times_ms):.1f}"
            lines.append(f"| {row.label} | {times} | {speedup(rows[0], row):.2f} |")
    return "\n".join(lines)


def from_row(codes: Floats, first: int) -> Floats:
    """An edit of the rows from ``first`` on, of a usual size."""
    edited = codes.copy()
    offset = np.asarray(np.random.default_rng(0).standard_normal(codes.shape[-1]), np.float32)
    edited[:, first:] += np.float32(0.2 * np.linalg.norm(codes[0, 0]) / np.linalg.norm(offset)) * offset
    return edited


def of_bundle(name: str, threads: int, precisions: Sequence[str]) -> tuple[list[list[Row]], list[str]]:
    """Rows for the bundle's photo generator, and how fine each of its edits is."""
    groups, lines = [], []
    with open_bundle(name, compiled=False) as bundle:
        path = bundle.path / bundle.manifest.networks[bundle.manifest.generators["photo"]].file
        editor = Editor(bundle.directions, bundle.latent_avg)
        codes = np.asarray(bundle.latent_avg, np.float32).reshape(1, bundle.n_styles, bundle.w_dim).copy()
        edits = {
            one.name: editor.apply(codes, {one.name: one.range[1]}) for one in editor.directions.values()
        }
    for precision in precisions:
        session = open_session(path, backend="native", threads=threads, precision=precision)
        whole = int(session.outputs[0].shape[-1])
        kinds = {"all rows": from_row(codes, 0)} | {f"rows from {k}": from_row(codes, k) for k in (4, 8)}
        groups.append(
            rows_for(f"{name} {whole} px {precision}", session, codes, kinds, (whole // 2, whole // 4))
        )
    session = open_session(path, backend="native", threads=threads)
    synthesizer, whole = Synthesizer(session), int(session.outputs[0].shape[-1])
    sizes = [whole // 2, whole // 4, whole // 8]
    samples = np.asarray(bundle.latent.get("samples", codes[0]), np.float32)[:PEOPLE]
    people = samples.reshape(-1, *codes.shape[1:])[:, None]
    lines = [
        f"Median over {len(people)} people (and the least).",
        "",
        "| edit, at its range's upper end | " + " | ".join(f"dB at {size} px" for size in sizes) + " |",
    ]
    lines.append("|---" + "|--:" * len(sizes) + "|")
    for edit, edited in edits.items():
        check(session, codes, edited)
        cells = []
        for size in sizes:
            losses = [
                decibels(synthesizer, one, editor.apply(one, {edit: editor.directions[edit].range[1]}), size)
                for one in people
            ]
            cells.append(f"{np.median(losses):.1f} ({min(losses):.1f})")
        lines.append(f"| {edit} | " + " | ".join(cells) + " |")
    return groups, lines


def of_config_f(
    side: int, thin: int, threads: int, precisions: Sequence[str], folder: Path
) -> list[list[Row]]:
    """Rows for a seeded generator."""
    import torch
    from doppelgan.export.checkpoints.tensors import TensorTable
    from doppelgan.export.networks.stylegan2 import Mapping, Synthesis, from_rosinality
    from doppelgan.export.onnx_files.onnx_graph import to_onnx

    from tests.export import seeds

    from .stylegan2_1024 import RGB_SCALE

    channels = {size: max(8, width // thin) for size, width in seeds.CONFIG_F.items() if size <= side}
    state = seeds.rosinality(channels, 512, 8)
    state |= {k: v * RGB_SCALE for k, v in state.items() if "to_rgb" in k and k.endswith("conv.weight")}
    weights = from_rosinality(TensorTable(state, "generator", "seeded fill"))
    with torch.inference_mode():
        z = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
        codes = Mapping(weights)(z)[:, None].repeat(1, weights.n_styles, 1).numpy()
    path = folder / "config-f.onnx"
    path.write_bytes(to_onnx(Synthesis(weights).eval(), {"codes": torch.from_numpy(codes)}, ["image"]))
    groups = []
    for precision in precisions:
        session = open_session(path, backend="native", threads=threads, precision=precision)
        assert isinstance(session, GeneratorSession)
        kinds = {"all rows": from_row(codes, 0)} | {f"rows from {k}": from_row(codes, k) for k in (4, 8)}
        smaller = [size for size in SMALLER if size < side]
        name = "config-f" + (f" / {thin}" if thin > 1 else "")
        groups.append(rows_for(f"{name} {side} px {precision}", session, codes, kinds, smaller))
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--side", type=int, default=1024, help="of the config-f generator; 0: none")
    parser.add_argument("--thin", type=int, default=1, help="its channels are divided by this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=this_machine().cores)
    parser.add_argument("--precisions", nargs="+", default=["float32", "int16"])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if "native" not in usable_backends():
        parser.error("one pass is the native backend's, which is not usable here")

    groups, finesse = of_bundle(options.bundle, options.threads, options.precisions)
    with tempfile.TemporaryDirectory() as folder:
        if options.side:
            groups += of_config_f(
                options.side, options.thin, options.threads, options.precisions, Path(folder)
            )
        for rows in groups:
            time_rows(rows, options.rounds)
    command = (
        f"python -m benchmarks.pair --bundle {options.bundle} --side {options.side} --thin {options.thin}"
    )
    command += f" --rounds {options.rounds} --threads {options.threads}"
    page = [
        header(f"A picture and its edit, {options.threads} threads", command),
        f"{options.rounds} rounds in turns. One pass gave the bits of two runs.\n",
        table(groups),
        "",
        *finesse,
    ]
    publish("\n".join(page), options.output)


if __name__ == "__main__":
    main()
