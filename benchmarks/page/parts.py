"""The measurements; every part is a function that returns its section."""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .browser import EDITED, Page, server
from .line import ThinLine
from .report import Section

WAYS = {
    "socket, automatic": ("auto", False),
    "socket, H.264": ("h264", False),
    "socket, JPEG": ("jpeg", False),
    "WebRTC": ("webrtc", False),
    "WebRTC, aiortc as it is": ("webrtc", True),
    "MJPEG": ("mjpeg", False),
}
LOOKS: dict[str, Mapping[str, Any]] = {
    "nothing turned: the frame stays as it came": {},
    "age and smile on own pixels": EDITED,
    "nine sliders on own pixels": {
        "edits": {
            "age": 0.6, "smile": 0.8, "glasses": 0.9, "beard": 0.5, "grey": 0.6, "hair_length": 0.4,
            "mouth_open": 0.3, "yaw": 0.2, "skin_tone": 0.3,
        }
    },
    "cartoon, face": {"style": "toon", "composite": "face", **EDITED},
    "cartoon, head": {"style": "toon", "composite": "head", **EDITED},
    "avatar instead of the frame": {"composite": "replace", **EDITED},
}  # fmt: skip
SLICE_S = 10.0


def ways(page: Page, folder: Path, seconds: float, rounds: int) -> Section:
    """Every way in turns; medians over all rounds."""
    with server(folder) as (port, _):
        page.open(port)
        section = Section(
            "ways", "Ways, age and smile edited", ("way", "frames/s", "age median ms", "age p95 ms")
        )
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for _ in range(rounds):
            for name, (way, plain) in WAYS.items():
                page.use(way, plain)
                time.sleep(3)
                samples[name] += page.measure(seconds)
                page.leave(way)
        page.use("auto", False)
        for name, found in samples.items():
            section.row(name, *_figures(found, seconds * rounds))
        section.note(_weight(page))
        page.driver.get("about:blank")
    return section


def looks(page: Page, folder: Path, seconds: float) -> Section:
    """The automatic way under looks that cost the pipeline more or less."""
    section = Section(
        "looks",
        "Looks, transport chosen automatically",
        ("look", "frames/s", "age median ms", "age p95 ms", "pipeline ms", "server CPU", "browser CPU"),
    )
    for name, look in LOOKS.items():
        with server(folder, look=look) as (port, desk):
            page.open(port)
            time.sleep(4)
            before = _cpu_s(os.getpid()), sum(map(_cpu_s, page.processes()))
            found = page.measure(seconds)
            after = _cpu_s(os.getpid()), sum(map(_cpu_s, page.processes()))
            shares = [f"{100 * (b - a) / seconds:.0f} %" for a, b in zip(before, after, strict=True)]
            stages = {stage.name: stage.median_ms for stage in desk.studio.report().stages}
            section.row(name, *_figures(found, seconds), stages.get("pipeline", float("nan")), *shares)
            page.driver.get("about:blank")
    section.note("CPU: of one core; this program that asks the browser is within the server's share.")
    return section


def troubles(page: Page, folder: Path) -> Section:
    """How long until a frame that was captured after the trouble is on the screen."""
    section = Section("troubles", "Troubles", ("trouble", "back after s", "age median ms afterwards"))

    def row(name: str, seconds: float, ages: list[float]) -> None:
        section.row(name, seconds, statistics.median(ages) if ages else float("nan"))

    with contextlib.ExitStack() as first:
        port, _ = first.enter_context(server(folder))
        page.open(port)
        row("none", *page.fresh_after(lambda: None))
        pull = "const [track] = stream.getTracks(); track.stop(); track.dispatchEvent(new Event('ended'))"
        row("camera pulled and back", *page.fresh_after(lambda: page.run(pull)))
        page.driver.switch_to.new_window("tab")
        time.sleep(8)
        page.driver.close()
        back = page.driver.window_handles[0]
        row("tab hidden for 8 s", *page.fresh_after(lambda: page.driver.switch_to.window(back)))
    time.sleep(3)
    with server(folder, port) as (port, _):
        row("server away for 3 s", *page.fresh_after(lambda: None))
        page.driver.get("about:blank")
    return section


def thin(page: Page, folder: Path, seconds: float) -> Section:
    """1 Mbit/s each way, in slices: the picture gets less frequent, not older and older."""
    section = Section(
        "thin", "A line of 1 Mbit/s each way", ("seconds", "frames/s", "age median ms", "age p95 ms")
    )
    with server(folder) as (port, _):
        line = ThinLine(port, 1e6)
        page.open(line.port)
        for number in range(max(2, round(seconds / SLICE_S))):
            span = f"{number * SLICE_S:.0f} to {(number + 1) * SLICE_S:.0f}"
            section.row(span, *_figures(page.measure(SLICE_S), SLICE_S))
        line.bytes_per_s = 1e8
        section.note(f"The line wide again: {page.fresh_after(lambda: None)[0]:.2f} s to the next frame.")
        page.driver.get("about:blank")
    return section


def soak(
    page: Page, folder: Path, minutes: float, camera_fps: int, keep_so_far: Callable[[Section], None]
) -> Section:
    """Memory of server and page, and the age, minute by minute."""
    title = f"{minutes:g} minutes, a camera of {camera_fps} frames/s, age and smile edited"
    section = Section(
        "soak",
        title,
        (
            "minute",
            "server MB",
            "page's heap MB",
            "page's process MB",
            "frames/s",
            "age median ms",
            "age p95 ms",
        ),
    )
    with server(folder) as (port, _):
        page.open(port)
        rows = []
        for minute in range(1, max(2, round(minutes)) + 1):
            samples = page.measure(60)
            page.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
            heap = page.run("return performance.memory.usedJSHeapSize") / 2**20
            memory = _rss_mb(os.getpid()), heap, max(map(_rss_mb, page.processes("renderer")))
            rows.append((*memory, *_figures(samples, 60)))
            section.row(str(minute), *rows[-1])
            if minute % 10 == 0:
                section.title = f"{minute} of {title}"
                keep_so_far(section)
        page.driver.get("about:blank")
    section.title = title
    few = max(1, min(5, len(rows) // 3))
    early, late = np.median(rows[1 : 1 + few], axis=0), np.median(rows[-few:], axis=0)
    names = ("server", "page's heap", "page's process", "frames/s", "age median", "age p95")
    changes = (f"{name} {100 * (b / a - 1):+.1f} %" for name, a, b in zip(names, early, late, strict=True))
    section.note(f"Last {few} minutes against minutes 2 to {few + 1}, medians: {', '.join(changes)}.")
    return section


def screenshots(page: Page, folder: Path) -> None:
    """docs/page.jpg and docs/page-phone.jpg as this machine shows them now."""
    from PIL import Image

    def take(name: str) -> None:
        picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
        picture.save(Path("docs") / name, quality=88)
        print(f"docs/{name}: {(Path('docs') / name).stat().st_size / 1e3:.0f} kB")

    turn = "await (await import('/static/api.js')).call('PATCH', '/api/state', %s);"
    with server(folder, look={}) as (port, _):
        page.open(port)
        page.run_async(turn % '{"edits": {"age": 0.6, "smile": 0.8, "glasses": 0.9}}')
        page.run_async("await (await import('/static/api.js')).call('PUT', '/api/presets/Grandma', {});")
        page.run("document.getElementById('compare').click()")
        time.sleep(20)
        page.run("document.getElementById('camera').options[0].text = 'Camera'")  # not this program's file
        take("page.jpg")
        page.run("document.getElementById('compare').click(); document.getElementById('theme').click()")
        page.run_async(
            turn % '{"style": "toon", "composite": "head", "edits": {"glasses": 0.9, "grey": 0.8}}'
        )
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1.5, "mobile": True}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(15)
        take("page-phone.jpg")
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.get("about:blank")


def _figures(samples: list[tuple[float, float]], seconds: float) -> tuple[float, float, float]:
    """Frames/s, median and 95th percentile of the ages in ms."""
    ages = [age for _, age in samples] or [float("nan")]
    return len(samples) / seconds, statistics.median(ages), float(np.percentile(ages, 95))


def _weight(page: Page) -> str:
    """What the page loads, and when something of it is seen."""
    size, paint = page.run("""
        const sizes = performance.getEntriesByType('resource').filter(({name}) => name.includes('/static/'));
        const [paint] = performance.getEntriesByName('first-contentful-paint');
        const [document_] = performance.getEntriesByType('navigation');
        const all = [document_, ...sizes].reduce((sum, one) => sum + one.encodedBodySize, 0);
        return [all, paint?.startTime ?? NaN];
    """)
    return f"Page weight {size / 1e3:.0f} kB, first paint {paint:.0f} ms after it was asked for."


def _rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def _cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
