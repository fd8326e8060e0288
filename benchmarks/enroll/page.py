"""The results as a page: likeness and cost of each person, following of each motion, effect of each edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from .results import CLIP, ONE, PLAIN, Result

LIKENESS: tuple[tuple[str, Callable[[Result], float | None], str], ...] = (
    ("PSNR dB", lambda r: r.psnr_db, ".1f"),
    ("MS-SSIM", lambda r: r.ms_ssim, ".3f"),
    ("toon dB", lambda r: r.toon_db, ".1f"),
    ("distance", lambda r: r.distance, ".2f"),
    ("frame time", lambda r: r.speed, ".2f"),
    ("wall s", lambda r: r.wall_s, ".0f"),
    ("CPU s", lambda r: r.cpu_s, ".0f"),
    ("GB", lambda r: r.peak_gb, ".1f"),
)

WHAT = """\
Likeness is judged on pictures that enrollment never saw: the last 30 % of a clip, the other poses of a
render, all within the face's hull; a still has no others, and its distance is that of the avatar while two
other people drive it. Distance: of a recognizer that takes no part in training, median of frames. Frame
time: relative to the base's, in turns. Following: correlation of the driver's face and the avatar's, both
as the tracker sees them, for motions that happen in the clip; brows have no target. Edits: how far
they move what they mean from their low end to their high one, relative to the base's at the same code (1: as
far; not counted where the base itself hardly moves, as toward the long hair of who has it): pose, lids, brows
and mouth as the tracker sees them, looks and gaze as a regressor reads them that saw renders alone; and how
much further than the base's the picture at the upper end is from the unedited one for the recognizer."""


def page(results: Sequence[Result], header: str) -> str:
    judged = [r for r in results if r.done and not r.refused]
    parts = [header, WHAT, "## Likeness and cost", _likeness(judged)]
    followed = _following(judged)
    if followed:
        parts += ["## Following", followed]
    edited = _edits(judged)
    if edited:
        parts += ["## Edits", edited]
    refused = [f"- {r.name}: {r.refused}" for r in results if r.refused]
    if refused:
        parts += ["## Refused", "\n".join(refused)]
    return "\n\n".join(parts)


def _likeness(results: Sequence[Result]) -> str:
    rows = [(r.name, r.how, *(_cell(get(r), form) for _, get, form in LIKENESS)) for r in results]
    for kind in ("clip", "render", "still"):
        for how in (PLAIN, ONE, CLIP):
            these = [r for r in results if r.how == how and r.kind == kind]
            if these:
                medians = (_cell(_median([get(r) for r in these]), form) for _, get, form in LIKENESS)
                rows.append((f"**median of {len(these)} {kind}s**", how, *medians))
    for how in (PLAIN, ONE, CLIP):
        known = [r.distance for r in results if r.how == how and r.kind != "render"]
        if _median(known) is not None:
            cells = [_cell(_median(known), form) if head == "distance" else "" for head, _, form in LIKENESS]
            rows.append(("**median of all media**", how, *cells))
    return _table(("person", "enrolled from", *(head for head, _, _ in LIKENESS)), rows)


def _following(results: Sequence[Result]) -> str:
    motions = list(dict.fromkeys(m for r in results for values in r.following.values() for m in values))
    rows = []
    for result in results:
        for driver, values in result.following.items():
            by = "self" if driver == result.name else driver
            cells = (_cell(values.get(motion), ".2f") for motion in motions)
            rows.append((result.name, result.how, by, *cells))
    return _table(("person", "enrolled from", "driver", *motions), rows, left=3) if rows else ""


def _edits(results: Sequence[Result]) -> str:
    enrolled = [r for r in results if r.edits]
    names = list(dict.fromkeys(name for r in enrolled for name in r.edits))
    rows = []
    for name in names:
        effects, changes = zip(*(r.edits[name] for r in enrolled if name in r.edits), strict=True)
        rows.append((name, *_spread(effects, "", min), *_spread(changes, "+", max)))
    if not rows:
        return ""
    effects, changes = zip(*(value for r in enrolled for value in r.edits.values()), strict=True)
    rows.append(("**all**", *_spread(effects, "", min), *_spread(changes, "+", max)))
    heads = ("edit", "effect, median", "least", "identity change, median", "most")
    return f"{len(enrolled)} enrollments.\n\n{_table(heads, rows, left=1)}"


def _spread(
    values: Sequence[float | None], sign: str, worst: Callable[[Sequence[float]], float]
) -> tuple[str, str]:
    known = [value for value in values if value is not None]
    return (f"{median(known):{sign}.2f}", f"{worst(known):{sign}.2f}") if known else ("-", "-")


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * left + "--:|" * (len(heads) - left)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
