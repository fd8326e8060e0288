"""The results as a page: what it ran on, what was checked, what it took.

python -m benchmarks.gpu.page benchmarks/results/2026-11-27-nvidia-h100.json    # writes the .md beside it
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]
STREAM_FPS = 30


def write_page(result: Mapping[str, Any], path: Path) -> str:
    text = page(result)
    path.write_text(text + "\n", encoding="utf-8")
    return text


def page(result: Mapping[str, Any]) -> str:
    records: Sequence[Record] = result["records"]
    machine = next((r for r in records if r["kind"] == "machine"), {})
    versions = " · ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    lines = [
        f"# On {machine.get('name', 'no card')}",
        "",
        f"{machine.get('date', '')} · commit {machine.get('commit', '')} · "
        f"driver {machine.get('driver', '-')}, "
        f"{machine.get('memory_gib', '-')} GiB · {machine.get('processor', '')}",
        "",
        versions,
        "",
        *((result["note"], "") if result.get("note") else ()),
    ]
    for write in (_outcomes, _ceilings, _checks, _times, _frames, _rest):
        section = write(result, records)
        if section:
            lines += [*section, ""]
    return "\n".join(lines).rstrip()


def _outcomes(result: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    bad = {name: text for name, text in result["outcomes"].items() if text != "done"}
    lines = [f"- **{name}**: {text}" for name, text in bad.items()]
    lines += [f"- {r['part']}: {r['what']}: {r['error']}" for r in records if r["kind"] == "failure"]
    return ["## What did not run", "", *lines] if lines else []


def _ceilings(_: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    rows = [r for r in records if r["kind"] == "ceiling"]
    figures = [
        f"{r['what']} {r['tflops']} TFLOP/s"
        if "tflops" in r
        else f"{r['what']} {r['gb_s']} GB/s (read and written)"
        for r in rows
    ]
    return ["## Ceilings, measured", "", ", ".join(figures) + "."] if figures else []


def _checks(_: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    rows = [
        (
            r["network"], r["how"] + (", wild codes" if r["kind"] == "overflow" else ""), r["samples"],
            r.get("psnr_db", ""), r.get("worst_psnr_db", ""), r.get("relative_l2", ""), r.get("max_abs", ""),
            "yes" if r["finite"] else "**no**",
        )
        for r in records
        if r["kind"] in ("check", "overflow")
    ]  # fmt: skip
    heads = ("network", "how", "samples", "dB", "worst dB", "rel. L2", "max", "finite")
    return ["## Checked", "", *_table(heads, rows)] if rows else []


def _times(_: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    ceilings = {r["what"]: r for r in records if r["kind"] == "ceiling"}
    work = {r["network"]: r for r in records if r["kind"] == "network"}
    rows = []
    for r in records:
        if r["kind"] != "time":
            continue
        gflop = work.get(r["network"], {}).get("gflop")
        rate = gflop * r["batch"] / r["median_ms"] if gflop else None  # TFLOP/s
        per_s = 1e3 * r["batch"] / r["median_ms"]
        share = ""
        if rate is not None:
            half = "float16" in r["how"]
            tf32 = "tf32" in r["how"].lower()
            top = ceilings.get("float16 product" if half else "tf32 product" if tf32 else "float32 product")
            share = f"{rate / top['tflops']:.0%}" if top and top["tflops"] else ""
        gb = work.get(r["network"], {}).get("least_gb")
        band = ""
        if gb and ceilings.get("copy", {}).get("gb_s"):
            moved = gb * (0.5 if "float16" in r["how"] else 1) * r["batch"]
            band = f"{1e3 * moved / r['median_ms'] / ceilings['copy']['gb_s']:.0%}"
        rows.append(
            (
                r["network"], r["how"], f"{r['median_ms']:.3f}", f"{r['p99_ms']:.3f}",
                r.get("with_copies_ms", ""),
                f"{per_s:.0f}", int(per_s // STREAM_FPS), r.get("memory_mb", ""), r.get("joules", ""),
                "" if rate is None else f"{rate:.1f}", share, band,
            )
        )  # fmt: skip
    heads = (
        "network", "how", "median ms", "p99 ms", "with copies ms", "per s", f"streams at {STREAM_FPS}/s",
        "MB",
        "J per run", "TFLOP/s", "of product", "of copy",
    )  # fmt: skip
    return ["## Times", "", *_table(heads, rows, numbers_from=2)] if rows else []


def _frames(_: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    rows = [
        (
            f"{r['width']}x{r['height']}", r["bundle"], r["backend"], r["composite"],
            f"{r['median_ms']:.2f}", f"{r['p99_ms']:.2f}", f"{1e3 / r['median_ms']:.0f}",
            int(1e3 / r["median_ms"] // STREAM_FPS), r.get("joules", ""), r["faces"],
            ", ".join(f"{k} {v}" for k, v in r["stages"].items()),
        )
        for r in records
        if r["kind"] == "frame"
    ]  # fmt: skip
    heads = (
        "frame",
        "bundle",
        "backend",
        "composite",
        "median ms",
        "p99 ms",
        "per s",
        "streams",
        "J",
        "faces",
        "stages, ms",
    )
    return ["## Whole frames", "", *_table(heads, rows)] if rows else []


def _rest(_: Mapping[str, Any], records: Sequence[Record]) -> list[str]:
    lines: list[str] = []
    tell: dict[str, Callable[[Record], str]] = {
        "driver": lambda r: f"CUDA calls through {r['package']}: {_told_checks(r)}",
        "pixels": lambda r: "CUDA pixel kernels: " + " ".join(r["page"][:1]),
        "inversion": lambda r: f"inversion, {r['encoder']}, {r['steps']} steps: {r['median_ms']:.2f} ms",
        "transfer": lambda r: f"{r['what']}: {r['median_ms']:.3f} ms",
        "enrollment": lambda r: (
            f"enrollment: {r['steps']} steps in {r['seconds']} s, "
            f"{r['psnr_before_db']} -> {r['psnr_after_db']} dB, {r['joules']} J"
        ),
        "compiled": lambda r: (
            f"torch.compile, {r['network']}, {r['how']}, batch {r['batch']}: {r['seconds']} s"
        ),
    }
    lines = [f"- {tell[r['kind']](r)}" for r in records if r["kind"] in tell]
    for r in records:
        if r["kind"] == "kernels":
            lines += ["", f"Longest kernels of {r['network']}, {r['how']}, {r['total_ms']} ms in all:", ""]
            lines += [f"- {ms} ms, {count} x `{name}`" for name, count, ms in r["longest"]]
    return ["## And", "", *lines] if lines else []


def _told_checks(r: Record) -> str:
    if "skipped" in r:
        return str(r["skipped"])
    failed = r["failed"]
    return f"{len(r['checks']) - len(failed)} of {len(r['checks'])} checks" + (
        f", failed: {failed}" if failed else ""
    )


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], numbers_from: int | None = None
) -> list[str]:
    n = len(heads) if numbers_from is None else numbers_from
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * n + "--:|" * (len(heads) - n)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def main() -> None:
    """Rewrite the page of a stored result; several runs of one day follow each other."""
    path = Path(sys.argv[1])
    stored = json.loads(path.read_text(encoding="utf-8"))
    runs = stored.get("runs", [stored])
    path.with_suffix(".md").write_text("\n\n".join(map(page, runs)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
