"""Options that several commands share, and the pipeline made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from ..backends import BACKENDS
from ..bundle.reader import open_bundle
from ..composite import MODES
from ..edit.direction_files import load_codes
from ..edit.editor import Editor, parse_edits
from ..edit.words import read_edits
from ..errors import EditError, SinkError
from ..mark.badge import CORNERS, SIZE, SIZES, Badge, Corner
from ..mark.c2pa import Signatory, is_available
from ..mark.marker import Marker
from ..mark.metadata import container_tags
from ..pipeline import Pipeline
from ..presets import Preset, Presets
from ..sink import Sink

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """As click's range, which lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number.", param, ctx)
        return number


THREADS = click.IntRange(1, 1024)


def pipeline_options(function: F) -> F:
    """Add --bundle, --edit, --style ... to a command; hand them on to :func:`make_pipeline`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


composite_option = click.option(
    "--composite",
    "-c",
    type=click.Choice(MODES),
    help="What goes back into the frame: only what the edit changes, the face, the whole head, or the avatar "
    "instead of the frame. Default: difference for photos, face for other styles.",
)

backend_option = click.option("--backend", help=f"{', '.join(BACKENDS)}; default: as compiled, else native.")

_OPTIONS = (
    click.option("--bundle", "-b", default="demo", show_default=True, help="Name or folder of a bundle."),
    click.option(
        "--edit",
        "-e",
        "edits",
        multiple=True,
        metavar="NAME=VALUE|WORDS",
        help="An edit, e.g. age=1 or smile=-0.5; repeat for several. `doppelgan bundles NAME` lists them. "
        "Words do, too: 'older, with a beard and a slight smile'.",
    ),
    click.option("--style", "-s", default="photo", show_default=True, help="Generator: photo, toon ..."),
    composite_option,
    click.option("--preset", metavar="NAME", help="A look that was saved in `doppelgan serve`."),
    click.option(
        "--truncation",
        type=FiniteRange(0, 1.5),
        default=1.0,
        show_default=True,
        help="1: the person as found; toward 0: more average, more editable.",
    ),
    click.option("--steps", type=click.IntRange(1, 20), help="Steps of a ReStyle encoder's loop."),
    click.option(
        "--motion",
        type=click.Choice(["absolute", "relative"]),
        help="Of an enrolled person: pose and expression of the driver, or the driver's change from "
        "their own neutral face. Default: as the bundle says.",
    ),
    click.option(
        "--codes",
        type=click.Path(path_type=Path),
        help="Codes file of one person, drawn instead of what the encoder reads: see `doppelgan invert`.",
    ),
    click.option(
        "--max-faces",
        type=click.IntRange(1, 16),
        default=1,
        show_default=True,
        help="Edit up to so many people; the largest faces first.",
    ),
    click.option(
        "--badge",
        type=click.Choice([*CORNERS, "off"]),
        default=CORNERS[2],
        show_default=True,
        help="Corner of the sign that tells viewers what AI did here.",
    ),
    click.option(
        "--badge-size",
        type=FiniteRange(*SIZES),
        default=SIZE,
        show_default=True,
        help="Its height as a share of the picture's shorter side.",
    ),
    click.option(
        "--watermark/--no-watermark",
        default=True,
        help="Mark changed pixels invisibly, for `doppelgan check`.  [default: watermark]",
    ),
    click.option(
        "--sign/--no-sign",
        default=None,
        help="Sign pictures and videos with a C2PA manifest.  [default: if the extra c2pa is installed]",
    ),
    click.option(
        "--sign-key",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Your private key (PEM); default: one made on first use.",
    ),
    click.option(
        "--sign-certificate",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Its certificate chain (PEM).",
    ),
    backend_option,
    click.option("--threads", type=THREADS, help="Threads per network; trackers keep to one."),
)


def make_pipeline(
    *,
    bundle: str,
    edits: tuple[str, ...],
    backend: str | None,
    threads: int | None,
    preset: str | None = None,
    badge: str = CORNERS[2],
    badge_size: float = SIZE,
    watermark: bool = True,
    codes: Path | None = None,
    sign: bool | None = None,
    sign_key: Path | None = None,
    sign_certificate: Path | None = None,
    **settings: Any,  # of Pipeline
) -> Pipeline:
    """Open the bundle, build the pipeline that the options describe, say what is odd about the edits."""
    chosen = parse_edits(text for text in edits if "=" in text)  # typing errors before the work
    signatory = _signatory(sign, sign_key, sign_certificate)
    if preset is not None:
        chosen, settings = with_preset(Presets().read(preset), chosen, settings)
    opened = open_bundle(bundle, backend=backend, threads=threads)
    worded, understood = read_edits([text for text in edits if "=" not in text], opened.directions)
    chosen |= worded
    for remark in understood:
        click.echo(f"doppelgan: note: {remark}", err=True)
    encoder = opened.manifest.encoder
    if settings.get("steps") is not None and (encoder is None or encoder.loop == "one-pass"):
        raise EditError(
            f"--steps: expected a bundle with a ReStyle encoder, got {opened.manifest.name!r}, "
            "whose encoder works in one pass; leave --steps out"
        )
    if codes is not None:
        settings["codes"] = load_codes(codes, opened.n_styles, opened.w_dim)[:1]
    if settings.get("composite") == "replace" and settings.get("max_faces", 1) > 1:
        raise click.UsageError(
            "--composite replace shows one avatar: choose --max-faces 1, or --composite head"
        )
    kind = "avatar" if settings.get("composite") == "replace" else "edited"
    marker = Marker(kind, _badge(badge, badge_size), watermark, signatory=signatory)
    pipeline = Pipeline(opened, chosen, marker=marker, **settings)
    if settings.get("composite") not in (None, pipeline.composite):
        click.echo(
            "doppelgan: note: difference is for photos of the person before the camera: the face is shown",
            err=True,
        )
    for remark in Editor(opened.directions, opened.latent_avg).remarks(pipeline.edits):
        click.echo(f"doppelgan: note: {remark}", err=True)
    return pipeline


def state_origin(sinks: Iterable[Sink], pipeline: Pipeline, source: str | None = None) -> None:
    """Have every file that the sinks write say how it was made, and from which file."""
    marker = pipeline.marker
    if marker is None:
        return
    parent = Path(source) if source is not None and Path(source).is_file() else None
    for sink in sinks:
        sink.on_file = partial(marker.finish, parent=parent)
        sink.tags = container_tags(sink.name, marker.kind)


def _badge(corner: str, size: float) -> Badge | None:
    """What the options ask for; says once what it means to leave the badge out."""
    if corner != "off":
        return Badge(cast(Corner, corner), size)
    click.echo(
        "doppelgan: note: --badge off: viewers cannot see that this is synthetic; who publishes or "
        "streams it must tell them in another way (EU AI Act, article 50). Metadata and watermark stay.",
        err=True,
    )
    return None


def _signatory(
    sign: bool | None,
    key: Path | None,
    certificate: Path | None,
) -> Callable[[], Signatory | None]:
    """A key that cannot be used is told now if one was asked for, and else does without."""
    if sign or (sign is None and (key or certificate)):
        asked = Signatory(key, certificate)
        return lambda: asked

    def own() -> Signatory | None:
        if sign is False or not is_available():
            return None
        try:
            return Signatory()
        except SinkError as error:
            click.echo(f"doppelgan: note: not signed: {error}", err=True)
            return None

    return own


def with_preset(
    preset: Preset, edits: dict[str, float], settings: dict[str, Any]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Edits and settings as the preset says; what was given on the command line goes before it."""
    looks = {"style": preset.style, "composite": preset.composite, "truncation": preset.truncation}
    return {**preset.edits, **edits}, settings | {n: look for n, look in looks.items() if not given(n)}


def given(name: str) -> bool:
    """Whether the command that runs was given its parameter ``name``, and not its default."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
