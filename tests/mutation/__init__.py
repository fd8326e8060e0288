"""Mutants: the code broken on purpose, one place at a time, to see which breakages no test notices.

    python -m tests --mutants                     # a sample of every room of the flow
    python -m tests --mutants pipeline track      # these rooms
    python -m tests --mutants pipeline --count 0  # every mutant of a room
    python -m tests --mutants --record FILE       # the shares, added to a table

The room's tests first run on the code as it is, and which of them runs which line is noted. A mutant meets
the tests that run its line, fastest first, until one is red: then it is killed. Survivors are listed; those
that change nothing that anybody could notice stand in ``rooms.JUDGED`` with the reason, and do not count.
Nothing on disk is changed: a child process imports the broken module instead of the real one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from .child import Fate, are_killed, watch
from .mutants import ROOT, Mutant, sample
from .record import Result, write
from .rooms import JUDGED, ROOMS

LEAST_KILLED = 0.85


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests --mutants")
    parser.add_argument("rooms", nargs="*", help=", ".join(ROOMS))
    parser.add_argument("--count", type=int, default=40, help="mutants per room; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--record", type=Path, help="a JSON file; a table beside it is written anew")
    options = parser.parse_args(arguments)
    if unknown := set(options.rooms) - ROOMS.keys():
        parser.error(f"expected rooms of {', '.join(ROOMS)}, got {', '.join(sorted(unknown))}")
    # Imported once, before the forks; nothing of doppelgan, which each child imports anew.
    for package in ("numpy", "click", "msgspec", "rich", "PIL", "av", "onnxruntime", "onnx"):
        importlib.import_module(package)
    for name in list(sys.modules):
        if name.startswith("doppelgan") and not name.endswith("_native"):
            del sys.modules[name]
    sys.path.insert(0, str(ROOT))
    worst = 1.0
    for room in options.rooms or ROOMS:
        result = _room(room, options.count, options.seed)
        if result is None:
            return 1
        print(f"{result}", flush=True)
        worst = min(worst, result.share)
        if options.record:
            write(options.record, result)
    return 0 if worst >= LEAST_KILLED else 1


def _room(room: str, count: int, seed: int) -> Result | None:
    """Print a room's survivors; None where its tests are no judge of it."""
    start_s = time.monotonic()
    places, names = ROOMS[room]
    files = [
        path.relative_to(ROOT).as_posix()
        for place in places
        for path in (sorted((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else [ROOT / place])
    ]
    test_files = [
        path.relative_to(ROOT).as_posix()
        for name in names
        for path in sorted((ROOT / "tests").rglob(f"{name}.py"))
    ]
    seen = watch(files, test_files)
    if not seen.is_green:
        print(f"{room}: its tests are red without any mutant; run them first", flush=True)
        return None
    code = compile((ROOT / files[0]).read_text(encoding="utf-8"), str(ROOT / files[0]), "exec")
    unbroken = Mutant(files[0], range(0), "", "", code, False)
    mutants, total = sample(files, count, seed)
    fastest = sorted(seen.durations_s, key=seen.durations_s.__getitem__)[:50]
    asked = [(unbroken, fastest)] + [(one, tests) for one in mutants if (tests := seen.tests_of(one))]
    fates: dict[int, Fate] = {}

    def report(number: int, fate: Fate) -> None:
        fates[number] = fate
        if number and fate is Fate.SURVIVED:
            _tell(asked[number][0])

    are_killed(asked, seen, report)
    if fates[0] is not Fate.SURVIVED:
        print(f"{room}: its tests are red in another order, without any mutant", flush=True)
        return None
    alive = [asked[number][0] for number, fate in fates.items() if number and fate is Fate.SURVIVED]
    for mutant in mutants:
        if not seen.tests_of(mutant):
            alive.append(mutant)
            _tell(mutant, "no test runs it")
    judged = sum(mutant.key in JUDGED for mutant in alive)
    return Result(
        room=room,
        places=total,
        tried=len(mutants),
        equivalent=judged,
        survived=len(alive) - judged,
        hung=sum(fate is Fate.HUNG for fate in fates.values()),
        seed=seed,
        seconds=time.monotonic() - start_s,
    )


def _tell(mutant: Mutant, remark: str = "") -> None:
    if why := JUDGED.get(mutant.key):
        remark = f"nobody could notice: {why}"
    print(f"  {mutant}" + (f"  ({remark})" if remark else ""), flush=True)
