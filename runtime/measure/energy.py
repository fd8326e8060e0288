"""Energy of a stretch of work, where the device tells it.

==========  =================================================  ==========================================
source      read from                                          what is added up
==========  =================================================  ==========================================
INA3221     /sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*        the module's input (VDD_IN), else all rails
tegrastats  its output, where no INA3221 can be read           likewise
RAPL        /sys/class/powercap/intel-rapl:*                   processor packages and their memory
nvidia-smi  power.draw; not on a Jetson, whose rails hold all  all cards
==========  =================================================  ==========================================

RAPL counts joules. The others tell watts, which are sampled ten times a second; their mean counts for the
whole stretch, so a stretch of seconds is right and one of milliseconds is not.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import msgspec

NOT_TOLD = "not told by this device"
INTERVAL_S = 0.1  # between samples
_FIRST_LINE_S = 5.0  # a tool that says nothing for so long is not waited for
_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")  # rails of a Jetson through which everything else is fed
# "VDD_IN 4942mW/4890mW" (now / average), without units before JetPack 5; never "RAM 2448/7620MB".
_TEGRASTATS_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/\d+(?:mW)?(?![\w.])")

Watts = Mapping[str, float]  # by rail


class Energy(msgspec.Struct, frozen=True):
    """What a stretch of work took, everything else that runs on the device included."""

    joules: float
    seconds: float
    rails: dict[str, float]  # mean watts of each rail that was added up, "RAPL package-0"

    @property
    def watts(self) -> float:
        return self.joules / self.seconds


class Gauge(Protocol):
    """One source. Used once per stretch: ``begin``, ``sample`` every INTERVAL_S, ``end``."""

    def begin(self) -> None: ...
    def sample(self) -> None: ...
    def end(self, seconds: float) -> dict[str, float]:
        """Joules per rail since ``begin``; a rail that told nothing is absent."""
        ...


class EnergyReader:
    """Everything below ``root`` that tells energy. ``missing`` says why not, where a remedy is known."""

    def __init__(self, root: Path = Path("/"), interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self.missing = ""
        self._gauges: list[Gauge] = []
        if rails := dict(_ina3221_rails(root)):
            self._gauges.append(_Powers("INA3221", rails))
        elif tool := _tool(root, "tegrastats"):
            every_ms = max(1, round(1e3 * interval_s))
            self._gauges.append(_Lines([tool, "--interval", str(every_ms)], read_tegrastats))
        else:
            self._find_pc(root)

    @property
    def tells(self) -> bool:
        """There is a source; whether it answers shows in ``measure``."""
        return bool(self._gauges)

    def _find_pc(self, root: Path) -> None:
        zones = dict(_rapl_zones(root))
        readable = {name: zone for name, zone in zones.items() if _number(zone / "energy_uj") is not None}
        if readable:
            self._gauges.append(_Counters("RAPL", readable))
        elif zones:
            zone = next(iter(zones.values()))
            self.missing = f"{zone}/energy_uj is there but not readable; as root: chmod a+r {zone}/energy_uj"
        if tool := _tool(root, "nvidia-smi"):
            query = ["--query-gpu=index,power.draw", "--format=csv,noheader,nounits"]
            every_ms = max(1, round(1e3 * self._interval_s))
            self._gauges.append(_Lines([tool, *query, "-lms", str(every_ms)], read_nvidia_smi))

    def measure(self, work: Callable[[], object]) -> Energy | None:
        """Run ``work`` and tell what it took; None (``work`` has run all the same) where nothing tells."""
        if not self._gauges:
            work()
            return None
        done = threading.Event()
        poller = threading.Thread(target=self._poll, args=(done,), name="energy", daemon=True)
        joules: dict[str, float] = {}
        for gauge in self._gauges:
            gauge.begin()
        start = time.perf_counter()
        poller.start()
        try:
            work()
        finally:
            seconds = time.perf_counter() - start
            done.set()
            poller.join()
            for gauge in self._gauges:
                joules |= gauge.end(seconds)
        if not joules:
            return None
        return Energy(sum(joules.values()), seconds, {name: j / seconds for name, j in joules.items()})

    def _poll(self, done: threading.Event) -> None:
        while not done.wait(self._interval_s):
            for gauge in self._gauges:
                gauge.sample()


def read_tegrastats(line: str) -> Watts:
    """Rails of one line of tegrastats."""
    rails = {m[1]: int(m[2]) / 1e3 for m in _TEGRASTATS_RAIL.finditer(line)}
    return {f"tegrastats {name}": rails[name] for name in _inputs_or_all(list(rails))}


def read_nvidia_smi(line: str) -> Watts:
    """One card, of ``index, power.draw``; nothing for a card that answers [N/A]."""
    index, _, watts = line.partition(",")
    try:
        return {f"nvidia-smi GPU {int(index)}": float(watts)}
    except ValueError:
        return {}


class _Counters:
    """RAPL zones: energy_uj rises and starts again from 0 past max_energy_range_uj."""

    def __init__(self, source: str, zones: Mapping[str, Path]) -> None:
        self._source, self._zones = source, zones
        self._range_uj = {name: _number(zone / "max_energy_range_uj") for name, zone in zones.items()}
        self._last_uj: dict[str, int] = {}
        self._sum_uj: dict[str, int] = {}

    def begin(self) -> None:
        self._last_uj, self._sum_uj = {}, {}
        self.sample()

    def sample(self) -> None:
        for name, zone in self._zones.items():
            now_uj = _number(zone / "energy_uj")
            if now_uj is None:
                continue
            step_uj = now_uj - self._last_uj.get(name, now_uj)
            if step_uj < 0:
                step_uj += (self._range_uj[name] or 0) + 1
            self._last_uj[name] = now_uj
            self._sum_uj[name] = self._sum_uj.get(name, 0) + max(step_uj, 0)

    def end(self, seconds: float) -> dict[str, float]:
        self.sample()
        return {f"{self._source} {name}": uj / 1e6 for name, uj in self._sum_uj.items()}


class _Powers:
    """Pairs of files, millivolts and milliamperes."""

    def __init__(self, source: str, rails: Mapping[str, tuple[Path, Path]]) -> None:
        self._source, self._rails = source, rails
        self._series: dict[str, list[tuple[float, float]]] = {}

    def begin(self) -> None:
        self._series = {}
        self.sample()

    def sample(self) -> None:
        for name, (voltage, current) in self._rails.items():
            mv, ma = _number(voltage), _number(current)
            if mv is not None and ma is not None:
                series = self._series.setdefault(f"{self._source} {name}", [])
                series.append((time.perf_counter(), mv * ma / 1e6))

    def end(self, seconds: float) -> dict[str, float]:
        self.sample()
        return {name: seconds * _mean(series) for name, series in self._series.items()}


class _Lines:
    """A tool that goes on printing lines until it is stopped."""

    def __init__(self, command: Sequence[str], read: Callable[[str], Watts]) -> None:
        self._command, self._read = command, read
        self._series: dict[str, list[tuple[float, float]]] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    def begin(self) -> None:
        self._series = {}
        try:
            self._process = subprocess.Popen(
                self._command, text=True, bufsize=1,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except OSError:
            return
        heard = threading.Event()
        self._listener = threading.Thread(
            target=self._listen, args=(self._process, heard), name="energy lines", daemon=True
        )
        self._listener.start()
        heard.wait(_FIRST_LINE_S)
        with self._lock:
            self._series = {}  # what came before the work began

    def _listen(self, process: subprocess.Popen[str], heard: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            now_s = time.perf_counter()
            with self._lock:
                for name, watts in self._read(line).items():
                    self._series.setdefault(name, []).append((now_s, watts))
            heard.set()
        heard.set()  # it ended

    def sample(self) -> None:
        """Lines come by themselves."""

    def end(self, seconds: float) -> dict[str, float]:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._listener is not None:
            self._listener.join(2.0)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = self._listener = None
        with self._lock:
            return {name: seconds * _mean(series) for name, series in self._series.items()}


def _ina3221_rails(root: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """(name, (millivolts, milliamperes)) of the channels to add up; channels 4 to 7 are sums and shunts."""
    found: dict[str, tuple[Path, Path]] = {}
    for folder in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for channel in (1, 2, 3):
            name = _text(folder / f"in{channel}_label")
            pair = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
            if name and name != "NC" and all(_number(path) is not None for path in pair):
                found[name] = pair
    for name in _inputs_or_all(list(found)):
        yield name, found[name]


def _rapl_zones(root: Path) -> Iterator[tuple[str, Path]]:
    """Packages and the memory beside them; cores are inside a package, and "psys" holds all of these."""
    powercap = root / "sys/class/powercap"
    for zone in sorted(powercap.glob("intel-rapl:*")):
        name, depth = _text(zone / "name"), zone.name.count(":")
        if depth == 1 and name.startswith("package"):
            yield name, zone
        elif depth == 2 and name == "dram":
            package = _text(powercap / zone.name.rpartition(":")[0] / "name")
            yield f"{package} dram", zone


def _inputs_or_all(names: Sequence[str]) -> list[str]:
    """The rail that feeds all others where there is one: adding those to it would count them twice."""
    return [name for name in names if name in _INPUTS] or list(names)


def _tool(root: Path, name: str) -> str | None:
    """A program on the search path, with every folder of it looked up below ``root``."""
    for folder in os.get_exec_path():
        path = root / folder.lstrip("/") / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    return None


def _mean(series: Sequence[tuple[float, float]]) -> float:
    """Mean over time of (seconds, value), straight between samples."""
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(series))
    span = series[-1][0] - series[0][0]
    return area / span if span > 0 else series[-1][1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
