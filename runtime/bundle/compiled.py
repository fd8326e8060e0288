"""What `doppelgan compile` found out: the fastest faithful way to run each network on one machine.

The record is ``compiled/<machine key>.json`` inside the bundle's folder or, where that cannot be written,
``<user cache>/doppelgan/<bundle>-<digest of its manifest>/<machine key>.json``. Variant networks lie beside
it. It is UTF-8 JSON with exactly the fields of :class:`Record`:

``format``, ``version``   ``"doppelgan-compiled"``, ``1``
``machine``               the processor, its cores and instructions; ``key`` names the file
``versions``              of Python and the packages that computed; others may be slower or faster
``created``               ISO 8601 date and time
``sources``               network -> sha256 of its file in the bundle
``choices``               network -> :class:`Choice`: backend, precision, threads, the file and its sha256
``measurements``          everything that was tried, also what lost or was refused, with drift and times

A choice counts only on the machine of the record, for the network whose sha256 is in ``sources``, and if
its own file has the stated sha256. ``file`` is relative to the record's folder; an empty one means the
bundle's own float32 file. Variants are ONNX: data, not code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..backends import installed
from ..drift import Drift
from ..errors import BundleError
from ..host.files import NOT_JSON, is_plain_name, json_file, sha256_of, write_whole
from ..host.machine import Machine, this_machine
from ..manifest import Manifest
from ..places import folders

FORMAT = "doppelgan-compiled"
VERSION = 1
# Of a backend that a record may set. Records are read from bundle folders, which may be downloaded: allow no
# other.
OPTIONS = frozenset({"precision"})


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to run one network."""

    backend: str
    precision: str  # "float32", "int16", "bfloat16", "tf32", "float16", "int8"
    threads: int
    file: str = ""  # variant beside the record; empty: the bundle's own
    sha256: str = ""  # of ``file``
    options: dict[str, str] = {}  # for the backend, e.g. {"precision": "bf16"}


class Measurement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that was tried."""

    network: str
    backend: str
    precision: str
    threads: int
    median_ms: float | None = None  # None: refused before it was timed
    p95_ms: float | None = None
    drift: Drift | None = None
    refused: str = ""  # why it does not count
    note: str = ""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file; fields as documented at the top of this module."""

    format: str
    version: int
    machine: Machine
    versions: dict[str, str]
    created: str
    sources: dict[str, str]
    choices: dict[str, Choice]
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Compiled:
    """A record that holds for this machine and bundle, and the folder it was found in."""

    folder: Path
    record: Record

    def choice(self, network: str, manifest: Manifest) -> Choice | None:
        """The choice for ``network``, unless its source changed or its backend is not installed."""
        choice = self.record.choices.get(network)
        entry = manifest.networks.get(network)
        if choice is None or entry is None or self.record.sources.get(network) != entry.sha256:
            return None
        if not installed(choice.backend):
            return None
        return choice

    def file(self, choice: Choice, bundle: Path, source: str) -> Path:
        """The network's file. Raises BundleError if a variant is gone or is not what was measured."""
        if not choice.file:
            return bundle / source
        path = self.folder / choice.file
        if not path.is_file() or sha256_of(path) != choice.sha256:
            state = "something else" if path.is_file() else "no file"
            raise BundleError(
                f"{path}: expected the variant with sha256 {choice.sha256[:12]}..., got {state}; "
                "run `doppelgan compile` again, or open the bundle with compiled=False"
            )
        return path


def find_compiled(bundle: Path, manifest: Manifest) -> Compiled | None:
    """The newest record for this machine and bundle, or None. Unreadable records are passed over."""
    usable = []
    for folder in folders(bundle, manifest):
        path = folder / f"{this_machine().key}.json"
        try:
            record = read_record(path.read_bytes(), str(path))
        except (OSError, BundleError):
            continue
        if record.machine == this_machine() and any(
            record.sources.get(name) == network.sha256 for name, network in manifest.networks.items()
        ):
            usable.append(Compiled(folder, record))
    return max(usable, key=lambda compiled: compiled.record.created, default=None)


def explain(bundle: Path, manifest: Manifest) -> str:
    """One sentence for people: which record is used, or why none is."""
    compiled = find_compiled(bundle, manifest)
    if compiled is None:
        others = [p for folder in folders(bundle, manifest) for p in sorted(folder.glob("*.json"))]
        if not others:
            return f"not compiled; run `doppelgan compile {manifest.name}`"
        here = [p for p in others if p.stem == this_machine().key]
        why = "made from other networks or unreadable" if here else "made on another machine"
        return f"compiled, but {why}; run `doppelgan compile {manifest.name}`"
    used = [name for name in compiled.record.choices if compiled.choice(name, manifest) is not None]
    idle = sorted(set(compiled.record.choices) - set(used))
    text = f"compiled {compiled.record.created[:10]} for this machine: {', '.join(used)}"
    return text + (f"; ignored (changed network or missing backend): {', '.join(idle)}" if idle else "")


def read_record(data: bytes, where: str) -> Record:
    """Decode a record. Raises BundleError."""
    try:
        record = msgspec.json.decode(data, type=Record)
    except NOT_JSON as error:
        raise BundleError(f"{where}: not a valid record: {error}; run `doppelgan compile` again") from None
    if record.format != FORMAT or record.version != VERSION:
        raise BundleError(
            f"{where}: expected {FORMAT} {VERSION}, got {record.format} {record.version}; "
            "run `doppelgan compile` again"
        )
    for choice in record.choices.values():
        if choice.file and not is_plain_name(choice.file):
            raise BundleError(f"{where}: expected a file name beside the record, got {choice.file[:80]!r}")
        if unknown := sorted(choice.options.keys() - OPTIONS):
            raise BundleError(f"{where}: expected no options but {', '.join(OPTIONS)}, got {unknown}")
    return record


def write_record(bundle: Path, manifest: Manifest, record: Record, variants: dict[str, bytes]) -> Path:
    """Store a record and its variants (file name -> content) where this user may write; returns its path."""
    reasons = []
    for folder in folders(bundle, manifest):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in variants.items():
                write_whole(folder / name, data)
            path = folder / f"{record.machine.key}.json"
            write_whole(path, json_file(record))
            return path
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
    raise BundleError(
        f"compile: expected a folder to write to, got {'; '.join(reasons)}; set DOPPELGAN_CACHE"
    )


def session_options(choice: Choice) -> dict[str, Any]:
    """Keyword arguments of ``open_session`` besides path and threads."""
    return {"backend": choice.backend, **choice.options}
