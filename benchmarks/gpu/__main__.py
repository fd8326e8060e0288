"""The command: start every part, let them measure in turn, gather what they wrote."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __doc__ as about
from .page import write_page
from .parts import PARTS, Part
from .turns import READY, go

PREPARED_S = 70.0  # nobody measures before, unless all are ready; who is late is passed over until it is


def main() -> int:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/gpu"), help="folder of results and logs")
    parser.add_argument("--rehearse", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"of {', '.join(p.name for p in PARTS)}")
    parser.add_argument("--jobs", type=int, default=len(PARTS), help="parts that prepare at the same time")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for everything")
    options = parser.parse_args()
    chosen = [part for part in PARTS if not options.only or part.name in options.only]
    folder: Path = options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    turns = Turns(chosen, folder, options.rehearse, options.jobs)
    outcomes = turns.take(options.limit)
    result = gather(folder, outcomes, time.monotonic() - start)
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(write_page(result, folder / "result.md"))
    return 0 if all(outcome == "done" for outcome in outcomes.values()) else 1


class Turns:
    """All parts: prepared side by side, measured one at a time in the order of PARTS, late ones later."""

    def __init__(self, parts: Sequence[Part], folder: Path, rehearse: bool, jobs: int) -> None:
        self._folder = folder
        self._rehearse = rehearse
        self._jobs = jobs
        self._waiting = list(parts)  # not measured yet
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._outcomes = {part.name: "not finished" for part in parts}
        self._start_s = time.monotonic()
        for part in parts:
            for ending in (READY, "go", "jsonl"):
                (folder / f"{part.name}.{ending}").unlink(missing_ok=True)

    def take(self, limit_s: float) -> dict[str, str]:
        """Part -> "done", or what went wrong."""
        try:
            while self._waiting and self._now_s() < limit_s:
                self._prepare()
                part = self._next()
                if part is None:
                    time.sleep(0.05)
                    continue
                self._waiting.remove(part)
                self._outcomes[part.name] = self._measure(part, limit_s)
                print(f"{self._now_s():6.1f} s  {part.name}: {self._outcomes[part.name]}", flush=True)
        finally:
            for process in self._processes.values():
                if process.poll() is None:
                    process.kill()
        return self._outcomes

    def _now_s(self) -> float:
        return time.monotonic() - self._start_s

    def _is_ready(self, part: Part) -> bool:
        return (self._folder / f"{part.name}.{READY}").exists()

    def _prepare(self) -> None:
        """Start parts, as long as not too many prepare."""
        preparing = [p for p in self._waiting if p.name in self._processes and not self._is_ready(p)]
        free = self._jobs - len(preparing)
        for part in [p for p in self._waiting if p.name not in self._processes][: max(0, free)]:
            command = [sys.executable, "-m", "benchmarks.gpu.parts", part.name, "--output", str(self._folder)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(part.threads), "PYTHONUNBUFFERED": "1"}
            with (self._folder / f"{part.name}.log").open("wb") as log:
                self._processes[part.name] = subprocess.Popen(
                    [*command, *(["--rehearse"] if self._rehearse else [])],
                    stdout=log, stderr=subprocess.STDOUT, env=environment,
                )  # fmt: skip

    def _next(self) -> Part | None:
        settled = [
            part
            for part in self._waiting
            if (process := self._processes.get(part.name)) is not None
            and (self._is_ready(part) or process.poll() is not None)
        ]
        quiet = self._now_s() > PREPARED_S or self._jobs < len(PARTS) or len(settled) == len(self._waiting)
        return settled[0] if settled and quiet else None

    def _measure(self, part: Part, limit_s: float) -> str:
        process = self._processes[part.name]
        if process.poll() is not None:
            return f"failed with status {process.returncode} while it prepared"
        began_s = self._now_s()
        go(self._folder, part.name)
        try:
            code = process.wait(min(part.limit_s, limit_s - began_s))
        except subprocess.TimeoutExpired:
            process.kill()
            return f"stopped after {self._now_s() - began_s:.0f} s"
        return "done" if code == 0 else f"failed with status {code}"


def gather(folder: Path, outcomes: dict[str, str], seconds: float) -> dict[str, Any]:
    """Everything that the parts wrote."""
    records: list[dict[str, Any]] = []
    for name in outcomes:
        path = folder / f"{name}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        records += [{"part": name, **json.loads(line)} for line in lines if line.endswith("}")]
    return {
        "format": "doppelgan-gpu",
        "version": 1,
        "seconds": round(seconds, 1),
        "outcomes": outcomes,
        "records": records,
    }


if __name__ == "__main__":
    sys.exit(main())
