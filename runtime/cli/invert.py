"""``doppelgan invert``: the code of a picture, by optimization."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ..edit.direction_files import save_codes
from ..errors import EditError
from ..host.files import check_folder, make_folder, refuse_to_replace
from .options import FiniteRange
from .progress import frame_progress
from .tuning import need_tuning


@click.command("invert")
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("--bundle", "-b", default="demo", show_default=True, help="Name or folder of a bundle.")
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Codes file to write, NAME.npz."
)
@click.option(
    "--plus",
    type=FiniteRange(0, 1),
    default=0.5,
    show_default=True,
    help="0: stays in W, edits well; 1: W+, reconstructs best.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="Of the optimization.",
)
@click.option(
    "--size",
    type=click.IntRange(16),
    default=256,
    show_default=True,
    help="Pixels, at most, that are compared.",
)
@click.option(
    "--start",
    type=click.Choice(["encoder", "average"]),
    default="encoder",
    show_default=True,
    help="Where the search begins: at the encoder's code, or at the average.",
)
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    help="Folder for page.png and page.json: distortion against editability as the dial moves.",
)
@click.option(
    "--enrolled",
    type=click.Path(path_type=Path),
    help="The bundle of this person, made by `doppelgan enroll`: one more row of the page.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def command(
    picture: Path,
    bundle: str,
    output: Path,
    overwrite: bool,
    plus: float,
    steps: int,
    size: int,
    start: str,
    page: Path | None,
    enrolled: Path | None,
) -> None:
    """Find the code whose picture is nearest to the face in PICTURE, and write it to a file.

    \b
    doppelgan invert me.jpg -o me.npz
    doppelgan invert me.jpg -o me.npz --plus 0 --page out/

    `--codes me.npz` of `doppelgan image`, `video` and `live` draws them.
    """
    need_tuning("invert")
    from doppelgan.export.tuning.inverting import run_invert

    if output.suffix != ".npz":
        name = Path(output.name or "codes").with_suffix(".npz")
        raise EditError(f"{output}: expected a name that ends in .npz; choose {name}")
    if enrolled is not None and page is None:
        raise EditError("--enrolled: expected a page to show it on, got none; add --page FOLDER")
    pages = [] if page is None else [page / "page.png", page / "page.json"]
    refuse_to_replace([output, *pages], overwrite)
    check_folder(output.parent)
    if page is not None:
        check_folder(page)
    console = Console(highlight=False, markup=False)
    with frame_progress("invert") as advance:
        point = run_invert(
            picture,
            bundle,
            plus=plus,
            steps=steps,
            size=size,
            start=start,
            page=page,
            enrolled=enrolled,
            on_step=advance,
        )
    make_folder(output.parent)
    save_codes(output, point.codes)
    console.print(
        f"{output}: {point.psnr_db:.1f} dB, {point.away:.2f} spreads away from W, "
        f"edits keep {point.editability:.0%}"
    )
    if page is not None:
        console.print(f"{page / 'page.png'}, {page / 'page.json'}: written")
