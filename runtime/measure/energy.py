"""Energy of a stretch of work, where the device tells it.

=======  =============================================  ==========================================
source   read from                                      what is added up
=======  =============================================  ==========================================
INA3221  /sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*    the module's input (VDD_IN), else all rails
RAPL     /sys/class/powercap/intel-rapl:*               processor packages and their memory
NVML     nvmlDeviceGetTotalEnergyConsumption            all cards; not on a Jetson, whose rails hold all
=======  =============================================  ==========================================

RAPL and NVML count joules; a card's count is renewed about ten times a second. INA3221 tells watts, which are
sampled as often, and their mean counts for the whole stretch. So a stretch of seconds is right and one of
milliseconds is not.

NVML is called through ``pynvml``, the package nvidia-ml-py of the extra ``gpu``.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import msgspec

NOT_TOLD = "not told by this device"
INTERVAL_S = 0.1  # between samples
_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")  # rails of a Jetson through which everything else is fed


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
    """Everything that tells energy: sensors below ``root``, and the cards of ``nvml``.

    ``nvml`` is the module ``pynvml`` or what has its functions; None: it is imported, where ``root`` is this
    machine's. ``missing`` says why a source that is there is not read, and the remedy.
    """

    def __init__(
        self, root: Path = Path("/"), interval_s: float = INTERVAL_S, nvml: Any | None = None
    ) -> None:
        self._interval_s = interval_s
        self.missing = ""
        self._gauges: list[Gauge] = []
        if rails := dict(_ina3221_rails(root)):
            self._gauges.append(_Powers("INA3221", rails))
            return
        self._find_processors(root)
        if nvml is None and root == Path("/"):
            nvml = self._import_nvml()
        if nvml is not None:
            self._find_cards(nvml)

    @property
    def tells(self) -> bool:
        """There is a source; whether it answers shows in ``measure``."""
        return bool(self._gauges)

    def _find_processors(self, root: Path) -> None:
        zones = dict(_rapl_zones(root))
        readable = {name: zone for name, zone in zones.items() if _number(zone / "energy_uj") is not None}
        if readable:
            self._gauges.append(_Counters("RAPL", readable))
        elif zones:
            zone = next(iter(zones.values()))
            self._miss(f"{zone}/energy_uj is there but not readable; as root: chmod a+r {zone}/energy_uj")

    def _import_nvml(self) -> Any | None:
        try:
            return importlib.import_module("pynvml")
        except ImportError:
            if Path("/proc/driver/nvidia/version").exists():
                self._miss("cards are not read: pip install nvidia-ml-py")
            return None

    def _find_cards(self, nvml: Any) -> None:
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:  # no driver, so no card
            return
        cards: dict[str, Any] = {}
        for index in range(count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            except nvml.NVMLError as error:
                self._miss(
                    f"GPU {index} has no energy counter for us ({error}); Volta and later cards have one"
                )
            else:
                cards[f"GPU {index}"] = handle
        if cards:
            self._gauges.append(_Cards(nvml, cards))

    def _miss(self, reason: str) -> None:
        self.missing += f"; {reason}" if self.missing else reason

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


class _Cards:
    """Counters of NVIDIA cards: millijoules since the driver was loaded, in 64 bits."""

    def __init__(self, nvml: Any, handles: Mapping[str, Any]) -> None:
        self._nvml, self._handles = nvml, handles
        self._start_mj: dict[str, int] = {}

    def begin(self) -> None:
        self._start_mj = self._read()

    def sample(self) -> None:
        """Counters need no samples."""

    def end(self, seconds: float) -> dict[str, float]:
        end_mj, start_mj = self._read(), self._start_mj
        return {f"NVML {name}": (end_mj[name] - start_mj[name]) / 1e3 for name in start_mj if name in end_mj}

    def _read(self) -> dict[str, int]:
        """A card that has been lost is absent."""
        counts_mj: dict[str, int] = {}
        for name, handle in self._handles.items():
            with contextlib.suppress(self._nvml.NVMLError):
                counts_mj[name] = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return counts_mj


def _ina3221_rails(root: Path) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """(name, (millivolts, milliamperes)) of the channels to add up; channels 4 to 7 are sums and shunts."""
    channels: dict[str, tuple[Path, Path]] = {}
    for folder in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*")):
        for channel in (1, 2, 3):
            name = _text(folder / f"in{channel}_label")
            pair = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
            if name and name != "NC" and all(_number(path) is not None for path in pair):
                channels[name] = pair
    for name in _inputs_or_all(list(channels)):
        yield name, channels[name]


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
