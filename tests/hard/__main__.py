"""See `tests.hard`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .readers import READERS


@dataclass
class Outcome:
    """What a reader did with its damaged inputs."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest_ms: int = 0
    grown_mb: int = 0
    findings: dict[int, str] = field(default_factory=dict)


Ended = subprocess.CompletedProcess[str]
Work = Callable[
    [Sequence[str], float], Ended
]  # a worker's arguments, and how many seconds it may take at most


def alone(arguments: Sequence[str], timeout_s: float) -> Ended:
    """A worker in a process of its own, which imports what it needs."""
    command = [sys.executable, "-m", "tests.hard.worker", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], timeout=timeout_s
    )


def attack(name: str, inputs: int, seed: int = 0, seconds: float = 1e9, work: Work = alone) -> Outcome:
    """``inputs`` damaged files for one reader; a crash counts as a finding, and the next input goes on."""
    outcome, first = Outcome(), 0
    while first < inputs:
        arguments = (name, str(first), str(inputs), str(seed), str(seconds))
        child = work(arguments, min(seconds, 80_000) + 3000)
        begun, done = first - 1, False
        for line in child.stdout.splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            begun = said.get("begun", begun)
            if "finding" in said:
                outcome.findings[said["finding"]] = said["what"]
            if "done" in said:
                done = True
                outcome.inputs += said["done"]
                outcome.read += said["read"]
                outcome.refused += said["refused"]
                outcome.slowest_ms = max(outcome.slowest_ms, said["slowest_ms"])
                outcome.grown_mb = max(outcome.grown_mb, said["grown_mb"])
        if done:
            break
        if begun < first:
            raise RuntimeError(f"{name}: the worker did not begin: {child.stderr[-2000:]}")
        outcome.findings[begun] = f"the process ended with {child.returncode}: {child.stderr.strip()[-200:]}"
        outcome.inputs += begun + 1 - first
        first = begun + 1
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hard", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="at most, per reader")
    parser.add_argument("--reader", choices=list(READERS), action="append")
    parser.add_argument("--atheris", action="store_true", help="coverage-guided; one --reader")
    options = parser.parse_args()
    names = options.reader or list(READERS)
    if options.atheris:
        return _guided(names[0], options.seconds)
    each = -(-options.inputs // len(names))
    heads = ("reader", "inputs", "refused", "read", "slowest ms", "memory grown MB", "findings")
    print(f"| {' | '.join(heads)} |\n|---{'|--:' * (len(heads) - 1)}|")
    findings = 0
    for name in names:
        result = attack(name, each, options.seed, options.seconds)
        findings += len(result.findings)
        numbers = (result.inputs, result.refused, result.read, result.slowest_ms, result.grown_mb)
        print(f"| {name} | {' | '.join(map(str, numbers))} | {len(result.findings)} |", flush=True)
        for number, what in list(result.findings.items())[:8]:
            print(f"  {name}, seed {options.seed}, input {number}: {what}", file=sys.stderr, flush=True)
    return 1 if findings else 0


def _guided(name: str, seconds: float) -> int:
    try:
        import atheris  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        print(
            "atheris is not installed: pip install atheris (Python up to 3.13 on Linux and macOS)",
            file=sys.stderr,
        )
        return 2
    corpus = Path(tempfile.mkdtemp()) / "corpus"
    command = [sys.executable, "-m", "tests.hard.guided", name, str(corpus), str(int(min(seconds, 1e9)))]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode


if __name__ == "__main__":
    sys.exit(main())
