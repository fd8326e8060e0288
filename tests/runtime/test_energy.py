"""What counts as energy, and what does not: made folder trees and tools in place of a device."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from doppelgan.runtime.measure import energy
from doppelgan.runtime.measure.energy import EnergyReader, read_nvidia_smi, read_tegrastats

ORIN_NX = (
    "11-23-2026 16:00:01 RAM 2448/7620MB (lfb 4x4MB) SWAP 12/3810MB (cached 0MB) CPU [9%@729,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] NVDEC off cpu@48.5C gpu@47.8C "
    "VDD_IN 4942mW/4890mW VDD_CPU_GPU_CV 1100mW/1050mW VDD_SOC 1350mW/1350mW"
)
AGX_ORIN = "RAM 5/30536MB VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 800mW/700mW VIN_SYS_5V0 4968mW/5048mW"
NANO = "RAM 1985/3964MB (lfb 107x4MB) IRAM 0/252kB(lfb 252kB) POM_5V_IN 2300/2400 POM_5V_GPU 80/90"


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


def tool(root: Path, name: str, script: str) -> None:
    write(root, {f"usr/bin/{name}": f"#!/bin/sh\n{script}"})
    (root / "usr/bin" / name).chmod(0o755)


@pytest.fixture(autouse=True)
def search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(("/usr/bin", "/bin")))


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


@pytest.mark.parametrize(
    ("line", "rails"),
    [
        (ORIN_NX, {"tegrastats VDD_IN": 4.942}),
        (
            AGX_ORIN,
            {
                "tegrastats VDD_GPU_SOC": 3.15,
                "tegrastats VDD_CPU_CV": 0.8,
                "tegrastats VIN_SYS_5V0": 4.968,
            },
        ),
        (NANO, {"tegrastats POM_5V_IN": 2.3}),
        ("RAM 1985/3964MB SWAP 0/1982MB GR3D_FREQ 0%", {}),
        ("", {}),
    ],
)
def test_lines_of_tegrastats(line: str, rails: dict[str, float]) -> None:
    assert read_tegrastats(line) == pytest.approx(rails)


@pytest.mark.parametrize(
    ("line", "rails"),
    [
        ("0, 12.34\n", {"nvidia-smi GPU 0": 12.34}),
        ("1, [N/A]\n", {}),
        ("No devices were found\n", {}),
    ],
)
def test_lines_of_nvidia_smi(line: str, rails: dict[str, float]) -> None:
    assert read_nvidia_smi(line) == rails


def test_tegrastats_runs_for_the_work_alone(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    tool(
        tmp_path,
        "tegrastats",
        f'echo "$$ $*" > {pid}\n'
        "echo VDD_IN 99000mW/99000mW VDD_SOC 1mW/1mW\n"  # before the work: does not count
        "sleep 0.1\n"
        "while :; do echo VDD_IN 5000mW/99000mW VDD_SOC 1000mW/1mW; sleep 0.02; done",
    )
    used = EnergyReader(tmp_path, interval_s=0.02).measure(lambda: time.sleep(0.4))
    assert used is not None
    assert used.rails == {"tegrastats VDD_IN": pytest.approx(5.0)}
    assert used.joules == pytest.approx(5.0 * used.seconds)
    number, *arguments = pid.read_text().split()
    assert arguments == ["--interval", "20"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(number), 0)


def test_a_tool_is_stopped_when_the_work_fails(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    tool(tmp_path, "tegrastats", f"echo $$ > {pid}\nwhile :; do echo VDD_IN 1mW/1mW; sleep 0.02; done")

    def work() -> None:
        raise KeyError("work")

    with pytest.raises(KeyError, match="work"):
        EnergyReader(tmp_path).measure(work)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_sensors_go_before_tegrastats_and_a_jetson_before_cards(tmp_path: Path) -> None:
    tool(tmp_path, "tegrastats", "while :; do echo VDD_IN 7000mW/1mW; sleep 0.02; done")
    tool(tmp_path, "nvidia-smi", "while :; do echo 0, 50; sleep 0.02; done")
    used = EnergyReader(tmp_path).measure(lambda: time.sleep(0.2))
    assert used is not None
    assert list(used.rails) == ["tegrastats VDD_IN"]
    ina3221(tmp_path, "1-0040", {1: ("VDD_IN", 5000, 1000)})
    used = EnergyReader(tmp_path).measure(lambda: time.sleep(0.02))
    assert used is not None
    assert list(used.rails) == ["INA3221 VDD_IN"]


def test_cards_are_added_to_the_processor(tmp_path: Path) -> None:
    counter = rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    tool(
        tmp_path,
        "nvidia-smi",
        'case "$*" in *power.draw*-lms*) ;; *) exit 1;; esac\n'
        "while :; do echo 0, 50.5; echo 1, 20; echo 2, [N/A]; sleep 0.02; done",
    )

    def work() -> None:
        time.sleep(0.3)
        counter.write_text("3000000")

    used = EnergyReader(tmp_path).measure(work)
    assert used is not None
    assert used.rails["nvidia-smi GPU 0"] == pytest.approx(50.5)
    assert used.joules == pytest.approx(3.0 + 70.5 * used.seconds)
    assert len(used.rails) == 3


def test_a_tool_without_a_card_tells_nothing(tmp_path: Path) -> None:
    tool(tmp_path, "nvidia-smi", "echo NVIDIA-SMI has failed; exit 9")
    start = time.perf_counter()
    assert EnergyReader(tmp_path).measure(lambda: time.sleep(0.02)) is None
    assert time.perf_counter() - start < 2


def test_counters_for_root_only_come_with_the_remedy(tmp_path: Path) -> None:
    path = rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    path.unlink()
    path.mkdir()  # unreadable for root as well
    reader = EnergyReader(tmp_path)
    assert not reader.tells
    assert f"chmod a+r {path}" in reader.missing
