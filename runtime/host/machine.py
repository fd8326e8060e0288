"""What machine this is: for files that hold for one machine only, and for figures in reports."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from functools import lru_cache
from pathlib import Path

import msgspec

# Instruction sets that change which precision is fast.
_NOTABLE = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
)
_VERSIONS = ("doppelgan", "onnxruntime", "openvino", "numpy", "av")


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``key`` is the same for machines that compute alike."""

    key: str
    system: str  # "Linux x86_64"
    processor: str
    cores: int  # that this process may use
    instructions: tuple[str, ...]  # those that matter, of the processor's

    @property
    def int8_saturates(self) -> bool:
        """True on x86 without VNNI, where pairs of 8-bit products are added in 16 bits."""
        return "x86" in self.system and not {"avx_vnni", "avx512_vnni"} & set(self.instructions)

    @property
    def int8_transposed(self) -> bool:
        """False where OpenVINO runs transposed convolutions in float32 whatever their tensors are."""
        return "x86" not in self.system or "avx512f" in self.instructions


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """Describe the machine this process runs on."""
    system = f"{platform.system()} {'x86_64' if platform.machine() == 'AMD64' else platform.machine()}"
    processor, flags = _cpuinfo()
    instructions = tuple(name for name in _NOTABLE if name in flags)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts = "\n".join((system, processor, str(cores), *instructions))
    words = re.sub(r"[^a-z0-9]+", "-", f"{processor} {cores}".lower()).strip("-")
    key = f"{words}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    return Machine(key, system, processor, cores, instructions)


def versions() -> dict[str, str]:
    """Installed versions of what decides speed and results, and Python's."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and not always wanted

    installed = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def load_average() -> float | None:
    """Processes that wanted to run in the last minute, on average; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def memory_mb() -> float:
    """Resident memory of this process, MB; its peak where only that is known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if platform.system() == "Darwin" else peak / 1e3
    except ImportError:
        return float("nan")


def _cpuinfo() -> tuple[str, frozenset[str]]:
    name, flags = platform.processor() or "unknown processor", frozenset[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            field, _, value = line.partition(":")
            if field.strip() in ("model name", "Model") and value.strip():
                name = value.strip()
            elif field.strip() in ("flags", "Features"):
                flags = frozenset(value.split())
    except OSError:
        pass
    return name, flags
