"""Figures of the run as Prometheus text (format 0.0.4)."""

from __future__ import annotations

from .desk import Desk


def metrics_text(desk: Desk, pages: int) -> str:
    """One line a figure; names start with ``doppelgan_``."""
    status = desk.status()
    lines: list[str] = []

    def add(name: str, kind: str, what: str, *values: tuple[str, float]) -> None:
        lines.append(f"# HELP doppelgan_{name} {what}")
        lines.append(f"# TYPE doppelgan_{name} {kind}")
        lines.extend(f"doppelgan_{name}{labels} {value:g}" for labels, value in values)

    add("frames_total", "counter", "Frames that were edited or tried.", ("", status["taken"]))
    add("frames_dropped_total", "counter", "Frames overtaken by a newer one.", ("", status["dropped"]))
    add(
        "frames_refused_total", "counter", "Frames that could not be read or edited.", ("", status["refused"])
    )
    add("frames_per_second", "gauge", "Finished frames.", ("", status["frames_per_s"]))
    states = [
        (f'{{state="{state}"}}', float(state == status["state"])) for state in ("live", "stale", "lost")
    ]
    add("state", "gauge", "1 for the present state.", *states)
    stages = [(f'{{stage="{name}"}}', ms / 1e3) for name, ms in status["stages_ms"].items()]
    add("stage_seconds", "gauge", "Median time of a stage over the last frames.", *stages)
    if desk.age_ms is not None:
        add("glass_to_glass_seconds", "gauge", "As a page measured it last.", ("", desk.age_ms / 1e3))
    add("pages", "gauge", "Open live sockets.", ("", pages))
    add("recording", "gauge", "1 while recording.", ("", float(desk.recorder.name is not None)))
    add("uptime_seconds", "gauge", "Since the start.", ("", status["uptime_s"]))
    return "\n".join(lines) + "\n"
