"""What counts as energy, and what does not: made folder trees and a made NVML in place of a device."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from doppelgan.runtime.measure import energy
from doppelgan.runtime.measure.energy import EnergyReader


class Nvml:
    """``pynvml`` of a machine whose cards have these counters, in mJ; None for a card without one."""

    class NVMLError(Exception):
        pass

    def __init__(self, *counters_mj: int | None, driver: bool = True) -> None:
        self.counters_mj = list(counters_mj)
        self.driver = driver

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.counters_mj)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[str, int]:
        return ("handle", index)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: tuple[str, int]) -> int:
        counter_mj = self.counters_mj[handle[1]]
        if counter_mj is None:
            raise self.NVMLError("Not Supported")
        return counter_mj


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def rapl(root: Path, zone: str, name: str, uj: int, range_uj: int = 10_000_000) -> Path:
    folder = f"sys/class/powercap/{zone}"
    write(
        root,
        {f"{folder}/name": name, f"{folder}/energy_uj": uj, f"{folder}/max_energy_range_uj": range_uj},
    )
    return root / folder / "energy_uj"


def ina3221(root: Path, address: str, channels: Mapping[int, tuple[str, int, int]]) -> None:
    folder = f"sys/bus/i2c/drivers/ina3221/{address}/hwmon/hwmon1"
    for channel, (label, mv, ma) in channels.items():
        write(
            root,
            {
                f"{folder}/in{channel}_label": label,
                f"{folder}/in{channel}_input": mv,
                f"{folder}/curr{channel}_input": ma,
            },
        )


def test_a_device_that_tells_nothing_still_works(tmp_path: Path) -> None:
    ran: list[int] = []
    reader = EnergyReader(tmp_path)
    assert not reader.tells
    assert reader.measure(lambda: ran.append(1)) is None
    assert (ran, reader.missing) == ([1], "")


def test_rapl_adds_packages_and_their_memory_but_nothing_twice(tmp_path: Path) -> None:
    counters = {
        rapl(tmp_path, "intel-rapl:0", "package-0", 1_000_000): 2_500_000,
        rapl(tmp_path, "intel-rapl:0:0", "dram", 0): 250_000,  # beside the package
        rapl(tmp_path, "intel-rapl:0:1", "core", 0): 1_000_000,  # inside it
        rapl(tmp_path, "intel-rapl:1", "package-1", 0): 4_000_000,
        rapl(tmp_path, "intel-rapl:2", "psys", 0): 9_000_000,  # all of the above
        rapl(tmp_path, "intel-rapl-mmio:0", "package-0", 0): 2_500_000,  # another way to the same
    }

    def work() -> None:
        time.sleep(0.01)
        for path, uj in counters.items():
            path.write_text(str(uj))

    used = EnergyReader(tmp_path).measure(work)
    assert used is not None
    assert used.joules == pytest.approx(1.5 + 0.25 + 4.0)
    assert used.watts == pytest.approx(used.joules / used.seconds)
    assert used.rails["RAPL package-1"] == pytest.approx(4.0 / used.seconds)
    assert set(used.rails) == {"RAPL package-0", "RAPL package-0 dram", "RAPL package-1"}


def test_a_counter_that_starts_again_is_followed_every_time(tmp_path: Path) -> None:
    path = rapl(tmp_path, "intel-rapl:0", "package-0", 9_000_000, range_uj=9_999_999)
    gauge = energy._Counters("RAPL", {"package-0": path.parent})
    gauge.begin()
    for uj in (1_000_000, 8_000_000, 500_000):  # 2 J across the end, 7 J, 2.5 J across the end
        path.write_text(str(uj))
        gauge.sample()
    path.write_text("600000")
    assert gauge.end(1.0) == {"RAPL package-0": pytest.approx(2.0 + 7.0 + 2.5 + 0.1)}


def test_a_counter_is_read_while_the_work_goes_on(tmp_path: Path) -> None:
    path = rapl(tmp_path, "intel-rapl:0", "package-0", 9_000_000, range_uj=9_999_999)

    def work() -> None:
        for uj in (1_000_000, 500_000):  # 2 J, then 9.5 J: one reading at the end would see 1.5 J
            path.write_text(str(uj))
            time.sleep(0.3)

    used = EnergyReader(tmp_path, interval_s=0.02).measure(work)
    assert used is not None
    assert used.joules == pytest.approx(11.5)


def test_the_input_rail_of_a_jetson_holds_the_others(tmp_path: Path) -> None:
    ina3221(
        tmp_path,
        "1-0040",
        {
            1: ("VDD_IN", 5000, 2000),
            2: ("VDD_CPU_GPU_CV", 5000, 900),
            3: ("VDD_SOC", 5000, 300),
            7: ("sum of shunt voltages", 77, 77),
        },
    )
    used = EnergyReader(tmp_path).measure(lambda: time.sleep(0.02))
    assert used is not None
    assert used.rails == {"INA3221 VDD_IN": pytest.approx(10.0)}
    assert used.joules == pytest.approx(10.0 * used.seconds)


def test_rails_without_an_input_are_added_up_over_all_chips(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", {1: ("VDD_GPU_SOC", 10000, 300), 2: ("VDD_CPU_CV", 10000, 80)})
    ina3221(
        tmp_path,
        "1-0041",
        {1: ("NC", 5000, 5000), 2: ("VDDQ_VDD2_1V8AO", 5000, 200), 7: ("sum of shunt voltages", 77, 77)},
    )
    used = EnergyReader(tmp_path).measure(lambda: time.sleep(0.02))
    assert used is not None
    assert used.watts == pytest.approx(3.0 + 0.8 + 1.0)
    assert "INA3221 NC" not in used.rails


def test_power_is_averaged_over_time_not_over_samples() -> None:
    assert energy._mean([(0.0, 0.0), (1.0, 10.0), (3.0, 10.0)]) == pytest.approx(25 / 3)
    assert energy._mean([(5.0, 7.0)]) == 7.0


def test_cards_are_added_to_the_processor(tmp_path: Path) -> None:
    counter = rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    nvml = Nvml(7_000_000, 1_000)

    def work() -> None:
        time.sleep(0.01)
        counter.write_text("3000000")
        nvml.counters_mj = [7_005_500, 3_000]

    reader = EnergyReader(tmp_path, nvml=nvml)
    used = reader.measure(work)
    assert used is not None
    assert used.joules == pytest.approx(3.0 + 5.5 + 2.0)
    assert used.rails["NVML GPU 0"] == pytest.approx(5.5 / used.seconds)
    assert set(used.rails) == {"RAPL package-0", "NVML GPU 0", "NVML GPU 1"}
    assert reader.missing == ""
    again = reader.measure(lambda: time.sleep(0.01))
    assert again is not None
    assert again.joules == 0  # since the beginning of this stretch, not of the first


def test_a_card_without_a_counter_is_named(tmp_path: Path) -> None:
    nvml = Nvml(None, 0)
    reader = EnergyReader(tmp_path, nvml=nvml)
    assert "GPU 0" in reader.missing
    used = reader.measure(lambda: nvml.counters_mj.__setitem__(1, 500))
    assert used is not None
    assert list(used.rails) == ["NVML GPU 1"]
    assert used.joules == 0.5


def test_a_card_that_is_lost_during_the_work_tells_nothing(tmp_path: Path) -> None:
    nvml = Nvml(0, 0)
    used = EnergyReader(tmp_path, nvml=nvml).measure(
        lambda: nvml.counters_mj.__setitem__(slice(0, 2), [None, 20])
    )
    assert used is not None
    assert list(used.rails) == ["NVML GPU 1"]


def test_no_driver_is_no_card(tmp_path: Path) -> None:
    reader = EnergyReader(tmp_path, nvml=Nvml(5, driver=False))
    assert (reader.tells, reader.missing) == (False, "")


def test_a_jetson_s_rails_hold_its_card(tmp_path: Path) -> None:
    ina3221(tmp_path, "1-0040", {1: ("VDD_IN", 5000, 1000)})
    used = EnergyReader(tmp_path, nvml=Nvml(0)).measure(lambda: time.sleep(0.02))
    assert used is not None
    assert list(used.rails) == ["INA3221 VDD_IN"]


def test_this_machine_s_cards_are_asked_for_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(0))
    monkeypatch.setattr(energy, "_ina3221_rails", lambda root: iter(()))
    used = EnergyReader().measure(lambda: time.sleep(0.02))
    assert used is not None
    assert "NVML GPU 0" in used.rails
    assert not EnergyReader(tmp_path).tells


@pytest.mark.parametrize("driver", [True, False])
def test_a_missing_package_is_named_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, driver: bool
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(energy, "_ina3221_rails", lambda root: iter(()))
    monkeypatch.setattr(energy, "_rapl_zones", lambda root: iter(()))
    monkeypatch.setattr(Path, "exists", lambda path: driver)
    assert ("pip install nvidia-ml-py" in EnergyReader().missing) == driver


def test_counters_for_root_only_come_with_the_remedy(tmp_path: Path) -> None:
    path = rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    path.unlink()
    path.mkdir()  # unreadable for root as well
    reader = EnergyReader(tmp_path)
    assert not reader.tells
    assert f"chmod a+r {path}" in reader.missing
