"""``doppelgan bundles``: list what is installed, inspect one."""

from __future__ import annotations

from pathlib import Path

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ..errors import BundleError
from ..manifest import MANIFEST, Manifest, Tensor, read_manifest
from ..places import find_bundle, list_bundles


@click.command("bundles")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it is.")
def command(name: str | None, as_json: bool) -> None:
    """List the bundles on this machine, or inspect the bundle NAME (a name or a folder).

    \b
    doppelgan bundles
    doppelgan bundles demo
    doppelgan bundles engines/mine --json
    """
    console = Console(highlight=False)
    if name is None:
        console.print(_overview())
        return
    folder = find_bundle(name)
    data = (folder / MANIFEST).read_bytes()
    if as_json:
        click.echo(data.decode())
        return
    manifest = read_manifest(data, str(folder / MANIFEST))
    console.print(f"[bold]{escape(manifest.name)}[/bold]  {escape(str(folder))}")
    for line in (manifest.description, manifest.license and f"license: {manifest.license}"):
        if line:
            console.print(escape(line))
    console.print(
        f"W+ [{manifest.n_styles}, {manifest.w_dim}], picture {manifest.image_size} px, "
        f"crop {manifest.crop_size} px, styles: {escape(', '.join(manifest.generators))}"
    )
    if manifest.enrollment is not None:
        one = manifest.enrollment
        frames = "one picture" if one.frames == 1 else f"{one.frames} frames"
        console.print(
            f"one person, enrolled into {escape(one.base)} from {frames} on {one.date}: {one.steps} steps, "
            f"{one.psnr_db[0]:.1f} to {one.psnr_db[1]:.1f} dB, {one.motion} motion; "
            f"consent: {escape(one.consent or 'not stated')}"
        )
    console.print(_networks(folder, manifest))
    if manifest.directions:
        console.print(_directions(manifest))


def _overview() -> Table:
    table = Table("bundle", "picture", "W+", "styles", "directions", "MB", "folder", box=SIMPLE)
    for folder in list_bundles():
        try:
            manifest = read_manifest((folder / MANIFEST).read_bytes(), str(folder))
        except BundleError as error:
            cells = (folder.name, "-", "-", "-", f"unusable: {error}", "-", str(folder))
            table.add_row(*map(escape, cells))
            continue
        cells = (
            folder.name,
            f"{manifest.image_size} px",
            f"{manifest.n_styles}x{manifest.w_dim}",
            ", ".join(manifest.generators),
            str(len(manifest.directions)),
            f"{_size(folder):.1f}",
            str(folder),
        )
        table.add_row(*map(escape, cells))
    return table


def _networks(folder: Path, manifest: Manifest) -> Table:
    table = Table(Column("network", no_wrap=True), "inputs", "outputs", "type", "MB", "GFLOP", box=SIMPLE)
    table.add_column("parity")  # relative L2, the worst step
    for name, network in manifest.networks.items():
        parity = f"{max(p.relative_l2 for p in network.parity):.0e}" if network.parity else ""
        table.add_row(
            escape(name),
            escape("\n".join(map(_tensor, network.inputs))),
            escape("\n".join(map(_tensor, network.outputs))),
            escape(network.precision),
            f"{path.stat().st_size / 1e6:.1f}" if (path := folder / network.file).is_file() else "missing",
            f"{network.gflop:.2f}" if network.gflop else "",
            parity,
        )
    return table


def _tensor(tensor: Tensor) -> str:
    return f"{tensor.name} {'x'.join(map(str, tensor.shape))}"


def _directions(manifest: Manifest) -> Table:
    table = Table(Column("--edit", no_wrap=True), "range", "from", "to", "rows", "moves; note", box=SIMPLE)
    for name, info in manifest.directions.items():
        rows = "all" if info.rows is None else f"{info.rows[0]}-{info.rows[1] - 1}"
        span = f"{info.range[0]:g} .. {info.range[1]:g} {info.unit}".rstrip()
        table.add_row(
            *map(escape, (name, span, *info.ends, rows, "; ".join(filter(None, (info.moves, info.note)))))
        )
    return table


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6
