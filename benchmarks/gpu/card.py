"""The card as NVML tells it: name, driver, memory in use, joules. On a machine without one, nothing."""

from __future__ import annotations

from typing import Any


class Card:
    """Device 0. Every figure is None where there is no NVIDIA card or no ``nvidia-ml-py``."""

    def __init__(self) -> None:
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            self._nvml = pynvml
        except Exception:  # missing package, missing driver, missing card: all the same here
            return

    def describe(self) -> dict[str, Any]:
        if self._nvml is None:
            return {"name": "no NVIDIA card"}
        text = self._nvml.nvmlDeviceGetName(self._handle)
        driver = self._nvml.nvmlSystemGetDriverVersion()
        return {
            "name": text if isinstance(text, str) else text.decode(),
            "driver": driver if isinstance(driver, str) else driver.decode(),
            "memory_gib": round(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total / 2**30, 1),
        }

    def used_mb(self) -> float | None:
        """Memory in use on the whole card, MB."""
        if self._nvml is None:
            return None
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) / 1e6

    def joules(self) -> float | None:
        """The card's energy counter."""
        if self._nvml is None:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except Exception:  # cards before Volta have no counter
            return None
