"""``doppelgan compile``: find and store the fastest faithful way to run a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..bundle.compiled import Measurement, Record
from ..drift import BOUNDS
from ..errors import BackendError
from ..host.files import check_folder, make_folder, printable, refuse_to_replace, write_whole
from .options import given

REPORT = ("compile.md", "compile.png")
# Options of tuning alone.
NOT_WITH_FOR = {"backends": "--backend", "crops": "--crops", "rounds": "--rounds", "report_to": "--report"}


@click.command("compile")
@click.argument("bundle", default="demo")
@click.option(
    "--for",
    "target",
    type=click.Choice(["tensorrt", "rtx"]),
    help="Build TensorRT engines instead of tuning for this machine; see docs/jetson.md.",
)
@click.option("--arch", help="With --for rtx: compute capabilities, e.g. sm86,sm89; default: this machine's.")
@click.option("--backend", "backends", multiple=True, help="Try only this backend; repeat for several.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(list(BOUNDS)),
    help="Try only this precision; repeat for several. Default: all that this machine computes in.",
)
@click.option("--network", "networks", multiple=True, help="Only this network; repeat for several.")
@click.option(
    "--crops",
    type=click.Path(path_type=Path),
    help="Folder of aligned face pictures for calibration; default: faces of the bundle's generator.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 10_000),
    default=64,
    show_default=True,
    help="Inputs that show drift.",
)
@click.option(
    "--rounds",
    type=click.IntRange(3, 100_000),
    default=15,
    show_default=True,
    help="Timed runs of each.",
)
@click.option(
    "--report", "report_to", type=click.Path(path_type=Path), help="Write table and plot into this folder."
)
@click.option("--overwrite", is_flag=True, help="Replace reports, and build engines that are up to date.")
def command(
    bundle: str,
    target: str | None,
    arch: str | None,
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    networks: tuple[str, ...],
    crops: Path | None,
    samples: int,
    rounds: int,
    report_to: Path | None,
    overwrite: bool,
) -> None:
    """Tune BUNDLE for this machine: backends, precisions and threads, checked against float32, then timed.

    The fastest of what stays within its bound is kept for each network and used from then on by itself;
    OpenVINO only if it saves 5 % of a frame's networks, since it takes time and memory to load.
    Run it while the machine is otherwise idle.

    \b
    doppelgan compile demo --report out/
    doppelgan compile engines/mine --precision float32
    doppelgan compile engines/mine --for rtx --arch sm86,sm89
    """
    from ..measure import plots
    from ..measure.autotune import PRECISIONS, autotune
    from ..pictures.files import read_aligned

    _refuse_what_would_do_nothing(target, arch)
    progress = Console(stderr=True, highlight=False, markup=False)

    def say(step: str) -> None:
        progress.print(step, style="dim")

    if target is not None:
        _engines(
            bundle,
            target,
            arch,
            precisions=precisions,
            networks=networks,
            samples=samples,
            overwrite=overwrite,
            report=say,
        )
        return
    if report_to is not None:
        refuse_to_replace((report_to / name for name in REPORT), overwrite)
        check_folder(report_to)
        if missing := plots.why_not():
            click.echo(f"doppelgan: note: no compile.png: {missing}", err=True)

    path, record = autotune(
        bundle,
        backends=backends or None,
        precisions=precisions or PRECISIONS,
        networks=networks or None,
        samples=samples,
        rounds=rounds,
        crops=read_aligned(crops) if crops is not None else (),
        report=say,
    )
    Console(highlight=False).print(_table(record))
    click.echo(f"{path}: written; `doppelgan` uses it from now on")
    if report_to is not None:
        make_folder(report_to)
        page, plot = (report_to / name for name in REPORT)
        write_whole(page, printable(markdown(record)).encode())
        if not plots.why_not():
            plots.plot_choices(record, plot)
        click.echo(f"{page}{'' if plots.why_not() else f', {plot}'}: written")


def _refuse_what_would_do_nothing(target: str | None, arch: str | None) -> None:
    if arch is not None and target != "rtx":
        raise click.UsageError("--arch: expected with --for rtx, which builds for GPUs that are not here")
    idle = [option for name, option in NOT_WITH_FOR.items() if given(name)]
    if target is not None and idle:
        raise click.UsageError(f"{idle[0]}: is for tuning, --for {target} builds engines; leave one out")


def rows(record: Record) -> list[list[str]]:
    """Network, backend, precision, threads, median, p95, drift, verdict: one row per measurement."""
    table = []
    for m in record.measurements:
        choice = record.choices.get(m.network)
        won = choice is not None and (m.backend, m.precision, m.threads) == (
            choice.backend, choice.precision, choice.threads,
        )  # fmt: skip
        table.append([
            m.network, m.backend, m.precision, str(m.threads or "-"),
            f"{m.median_ms:.2f}" if m.median_ms is not None else "-",
            f"{m.p95_ms:.2f}" if m.p95_ms is not None else "-",
            str(m.drift) if m.drift is not None else "-",
            _verdict(m, won),
        ])  # fmt: skip
    return table


def _verdict(row: Measurement, won: bool) -> str:
    if row.refused:
        return f"refused: {row.refused}"
    return ", ".join(filter(None, ("kept" if won else "", row.note)))


_HEAD = ("network", "backend", "precision", "threads", "median ms", "p95 ms", "drift", "")


def markdown(record: Record) -> str:
    """The record as a page."""
    lines = [
        f"# Compiled for {record.machine.processor}, {record.machine.cores} cores",
        "",
        f"{record.created} · {', '.join(f'{k} {v}' for k, v in record.versions.items())} · "
        f"instructions: {', '.join(record.machine.instructions) or 'none of note'}",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "|" + "---|" * len(_HEAD),
        *("| " + " | ".join(row) + " |" for row in rows(record)),
        "",
    ]
    return "\n".join(lines)


def _table(record: Record) -> Table:
    table = Table("network", "how", "median ms", "p95 ms", "drift", "")
    for row in rows(record):
        network, backend, precision, threads, median, p95, drift, verdict = map(escape, row)
        how = f"{backend} {precision}, {threads} thr."
        style = "bold" if verdict.startswith("kept") else None
        table.add_row(network, how, median, p95, drift.replace(", MS-SSIM", "\n"), verdict, style=style)
    return table


def _engines(bundle: str, target: str, arch: str | None, **settings: Any) -> None:
    try:
        from doppelgan.export import engines
    except ModuleNotFoundError as error:
        raise BackendError(
            f"compile: building engines needs the package {error.name!r}, which is not installed; "
            'run `pip install "doppelgan[export]"`, see docs/jetson.md'
        ) from None
    engines.compile_bundle(bundle, target=target, arch=arch, **settings)
