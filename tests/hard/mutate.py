"""Damage of the kinds that files suffer, and of those that people think up. The same seed, the same bytes."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
NUMBERS = ("-1", "0", "1e999", "NaN", "4294967296", "9" * 30, "1.5", "true", "null", '"x"', "[]", "{}")


def mutated(seeds: Sequence[bytes], number: int, seed: int = 0) -> bytes:
    """Damaged input ``number`` of ``seed``: one of ``seeds`` with one to six faults."""
    rng = random.Random(f"{seed}/{number}")
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(FAULTS)(data, rng, seeds)
        if len(data) > 4 << 20:
            del data[4 << 20 :]
    return bytes(data)


def _flip(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[_place(data, rng)] = rng.choice((0, 255, rng.randrange(256)))


def _number(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """A length or offset that promises too much."""
    value = rng.choice(INTERESTING)
    packed = (
        struct.pack(rng.choice("<>") + rng.choice("HIQ"), value & 0xFFFF if rng.random() < 0.3 else value)
        if value <= 0xFFFF
        else struct.pack(rng.choice("<>") + rng.choice("IQ"), value)
    )
    if len(data) >= len(packed):
        at = min(_place(data, rng), len(data) - len(packed))
        data[at : at + len(packed)] = packed


def _cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 4, 8, 100, 1000))]


def _repeat(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    part = data[at : at + rng.choice((1, 4, 32, 500))]
    data[at:at] = part * rng.choice((1, 2, 50))


def _insert(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))


def _splice(data: bytearray, rng: random.Random, seeds: Sequence[bytes]) -> None:
    """The beginning of one file, the end of another."""
    other = rng.choice(seeds)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _text(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """Another number, or another name, in text."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?|"[\w/.-]*"', bytes(data[: 1 << 16])))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice(
            (*NUMBERS, '"../../x"', '"' + "a" * 300 + '"')
        ).encode()


def _nest(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((b"[", b'{"a":', b"(", b"\x5d")) * rng.choice((50, 5000))


FAULTS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _flip, _byte, _byte, _number, _number, _cut, _remove, _repeat, _insert, _splice, _text, _nest,
)  # fmt: skip


def _place(data: bytearray, rng: random.Random) -> int:
    """Heads of files decide more than their middles."""
    return rng.randrange(min(len(data), 512)) if rng.random() < 0.5 else rng.randrange(len(data))
