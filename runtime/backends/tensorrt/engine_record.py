"""What `doppelgan compile --for tensorrt|rtx` built: engines, and the record that vouches for them.

Engines lie in ``compiled/engines/`` inside the bundle's folder or, where that cannot be written, in the
user's cache (``places.py`` says where). ``engines.json`` beside them is UTF-8 JSON with exactly the fields
of :class:`EngineRecord`:

``format``, ``version``   ``"doppelgan-engines"``, ``1``
``engines``               one :class:`Engine` per network, precision, TensorRT version and GPU generation

An engine is machine code. It is opened only if the record names it, its sha256 is the stated one, and it was
made from the network that the bundle's manifest names. The record itself is as trustworthy as the folder it
lies in: build engines yourself rather than take them from strangers.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from ...drift import Drift
from ...errors import BackendError, BundleError
from ...host.files import NOT_JSON, is_plain_name, json_file, write_whole
from ...manifest import MANIFEST, read_manifest
from ...places import folders

FORMAT = "doppelgan-engines"
VERSION = 1
FOLDER = "engines"
RECORD = "engines.json"


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One compiled network."""

    network: str  # name in the bundle
    precision: str  # "float32", "float16", "int8"
    file: str  # beside the record
    sha256: str
    source_sha256: str  # of the bundle's own float32 network
    onnx_sha256: str  # of what the builder read: the same, or the variant in ``precision``
    product: str  # "tensorrt", "tensorrt_rtx"
    version: str  # of the product, e.g. "10.3.0"
    arch: str  # "sm87"
    platform: str  # "Linux aarch64"
    size: int  # bytes of the file
    weights: int  # bytes on the device
    activations: int  # bytes on the device while it runs
    layers: dict[str, int]  # kind of layer -> how many, from the engine inspector
    float32_maps: int = 0  # layers that still compute on float32 feature maps
    build_s: float = 0.0
    drift: Drift | None = None  # of the precision against float32
    instead_of: str = ""  # a precision that drifted past its bound, so that this one was built


class EngineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file; fields as documented at the top of this module."""

    format: str
    version: int
    engines: tuple[Engine, ...]


def record_folders(bundle: Path) -> list[Path]:
    """Where engines of a bundle may lie; empty if ``bundle`` is no bundle."""
    path = bundle / MANIFEST
    if not path.is_file():
        return []
    return [folder / FOLDER for folder in folders(bundle, read_manifest(path.read_bytes(), str(path)))]


def read_engines(folder: Path) -> tuple[Engine, ...]:
    """Engines recorded in ``folder``; none if there is no record. Raises BackendError for a bad one."""
    path = folder / RECORD
    try:
        record = msgspec.json.decode(path.read_bytes(), type=EngineRecord)
    except FileNotFoundError:
        return ()
    except (OSError, *NOT_JSON) as error:
        raise BackendError(f"{path}: not a record of engines: {error}; delete it and compile again") from None
    if record.format != FORMAT or record.version != VERSION:
        raise BackendError(
            f"{path}: expected {FORMAT} {VERSION}, got {record.format} {record.version}; "
            "delete it and compile again"
        )
    for engine in record.engines:
        if not is_plain_name(engine.file):
            raise BackendError(f"{path}: expected a file name beside the record, got {engine.file[:80]!r}")
    return record.engines


def store_engine(folder: Path, engine: Engine, plan: bytes) -> Path:
    """Write the file of ``engine`` and its entry, which replaces one for the same purpose."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / engine.file
    write_whole(target, plan)
    kept = [other for other in read_engines(folder) if _purpose(other) != _purpose(engine)]
    record = EngineRecord(FORMAT, VERSION, (*kept, engine))
    write_whole(folder / RECORD, json_file(record))
    return target


def read_vouched(path: Path, sha256: str) -> bytes:
    """The engine's content. Raises BackendError if it is not exactly what was recorded."""
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path}: expected an engine, got {error.strerror}; compile again") from None
    actual = hashlib.sha256(plan).hexdigest()
    if actual != sha256:
        raise BackendError(
            f"{path}: expected sha256 {sha256[:12]}..., got {actual[:12]}...; engines are code and this one "
            "is not what was built, so it is not opened: delete it and compile again"
        )
    return plan


def bundle_folder(bundle: Path) -> Path:
    """Where a new engine goes: the first of :func:`record_folders` that can be written."""
    reasons = []
    for folder in record_folders(bundle):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
            return folder
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
    raise BundleError(
        f"compile: expected a folder to write to, got {'; '.join(reasons) or bundle}; set DOPPELGAN_CACHE"
    )


def _purpose(engine: Engine) -> tuple[str, ...]:
    return engine.network, engine.precision, engine.product, engine.version, engine.arch, engine.platform
