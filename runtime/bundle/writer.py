"""Write a bundle: in a folder aside that is renamed when complete. ``manifest.py`` documents the format."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..edit.direction import Direction
from ..edit.effect import Effect, effects_to_arrays
from ..errors import BundleError
from ..host.files import sha256_of
from ..manifest import (
    FORMAT,
    MANIFEST,
    VERSION,
    DataFile,
    DirectionInfo,
    EncoderInfo,
    Manifest,
    Network,
    Origin,
    Parity,
    Tensor,
    read_manifest,
    write_manifest,
)
from ..places import FOLDER as COMPILED
from .effects import measure_effects
from .reader import open_bundle


class BundleWriter:
    """Build a bundle in a folder aside; it appears under its name only when complete.

    ::

        with BundleWriter("engines/mine", name="mine", n_styles=18, w_dim=512, image_size=1024) as bundle:
            bundle.add_network("synthesis", onnx_bytes, inputs, outputs, parity=[...])
            bundle.add_latent(latent_avg=average)
            bundle.add_generator("photo", "synthesis")

    Leaving the block normally verifies and renames; an exception removes everything.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, **fields: Any) -> None:
        self.path = Path(path)
        if (self.path.exists() or self.path.is_symlink()) and not overwrite:
            raise BundleError(f"{self.path}: already there; choose another output or pass --overwrite")
        if self.path.is_symlink():
            self.path = Path(os.path.realpath(self.path))
        if self.path.exists():
            _require_replaceable(self.path)
        self._fields = fields
        self._networks: dict[str, Network] = {}
        self._files: dict[str, DataFile] = {}
        self._generators: dict[str, str] = {}
        self._directions: dict[str, Direction] = {}
        self._sources: list[Origin] = []
        self._encoder: EncoderInfo | None = None
        self._crop_size = 0
        self.folder = Path()  # where files are under construction

    def __enter__(self) -> BundleWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise BundleError(f"{self.path}: {reason}; choose another output") from None
        return self

    def add_network(
        self,
        name: str,
        onnx: bytes | Path,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        *,
        precision: str = "float32",
        parity: tuple[Parity, ...] = (),
        gflop: float | None = None,
    ) -> None:
        """Store ``NAME.onnx``, given as its bytes or as a file to copy, and name it in the manifest.

        inputs, outputs: what ``manifest.py`` asks of a network of this name. parity: measured distances from
        its original. gflop: of one run, a multiplication and an addition counted as two.
        """
        file = f"{name}.onnx"
        digest = self._store(file, onnx)
        self._networks[name] = Network(file, digest, inputs, outputs, precision, tuple(parity), gflop)

    def add_encoder(self, info: EncoderInfo, crop_size: int) -> None:
        """Say how the network "encoder" is used."""
        self._encoder, self._crop_size = info, crop_size

    def add_generator(self, style: str, network: str) -> None:
        """Draw ``style`` ("photo", "toon" ...) by the network of this name; the last one given counts."""
        self._generators[style] = network

    def add_latent(self, **arrays: NDArray[Any]) -> None:
        """latent_avg and whatever else ``manifest.py`` lists, as float32."""
        self.add_arrays("latent", {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()})

    def add_direction(self, direction: Direction) -> None:
        """Offer a latent direction under its own name, in place of an earlier one of that name."""
        self._directions[direction.name] = direction

    def add_source(self, path: Path, layout: str, license: str = "") -> None:  # noqa: A002 - the manifest's word
        self._sources.append(Origin(path.name, sha256_of(path), layout, license))

    def keep_source(self, source: Origin) -> None:
        """Name a source that another bundle names."""
        self._sources.append(source)

    def add_file(self, name: str, file: str, data: bytes | Path) -> None:
        """Any other file, e.g. the model card."""
        self._files[name] = DataFile(file, self._store(file, data))

    def add_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        file = f"{name}.npz"
        with self._guard(file):
            np.savez(self.folder / file, **arrays)  # type: ignore[arg-type]
        self._files[name] = DataFile(file, sha256_of(self.folder / file))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _finish(self) -> None:
        if self._directions:
            arrays: dict[str, NDArray[Any]] = {}
            for direction in self._directions.values():
                arrays.update(direction.to_arrays())
            self.add_arrays("directions", arrays)
        infos: dict[str, DirectionInfo] = {name: d.info for name, d in self._directions.items()}
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            networks=self._networks,
            generators=self._generators,
            files=self._files,
            crop_size=self._crop_size,
            created=date.today().isoformat(),
            encoder=self._encoder,
            directions=infos,
            sources=tuple(self._sources),
            **self._fields,
        )
        data = write_manifest(manifest)
        read_manifest(data, str(self.path / MANIFEST))  # what we write, we can read
        self._store(MANIFEST, data)
        self.folder.chmod(0o755)
        with self._guard(MANIFEST):
            self._put_in_place()

    def _put_in_place(self) -> None:
        """Under its name; a bundle that is replaced goes only when this one is there."""
        if not self.path.exists():
            self.folder.replace(self.path)
            return
        _require_replaceable(self.path)
        old = Path(tempfile.mkdtemp(prefix=f".{self.path.name}-", dir=self.path.parent))
        self.path.replace(old / "old")
        try:
            self.folder.replace(self.path)
        except BaseException:
            (old / "old").replace(self.path)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)

    def _store(self, file: str, data: bytes | Path) -> str:
        target = self.folder / file
        with self._guard(file):
            if isinstance(data, Path):
                shutil.copyfile(data, target)
            else:
                target.write_bytes(data)
        return sha256_of(target)

    def _guard(self, file: str) -> _DiskGuard:
        return _DiskGuard(self.path, file)


def add_effects(
    folder: str | Path,  # of a bundle
    on_progress: Callable[[str], None] = lambda name: None,  # before each direction
    known: Mapping[str, Effect] | None = None,  # by direction: those need no measuring
) -> None:
    """Measure what the bundle's directions do to its pictures, and keep that in it as ``effects.npz``.

    Nothing happens without directions or a landmark network. Raises BundleError if it cannot be written;
    the bundle then is as it was.
    """
    folder = Path(folder)
    with open_bundle(folder, compiled=False, backend="native") as bundle:
        if not bundle.directions or "landmarks" not in bundle.manifest.networks:
            return
        known = known or {}
        names = [name for name in bundle.directions if name not in known]
        arrays = effects_to_arrays({**measure_effects(bundle, names, on_progress=on_progress), **known})
        manifest = bundle.manifest
    guard = _DiskGuard(folder, "effects.npz")
    with guard, tempfile.TemporaryDirectory(prefix=".effects-", dir=folder) as aside:
        draft = Path(aside) / "effects.npz"
        np.savez_compressed(draft, **arrays)  # type: ignore[arg-type]
        files = {**manifest.files, "effects": DataFile("effects.npz", sha256_of(draft))}
        data = write_manifest(msgspec.structs.replace(manifest, files=files))
        read_manifest(data, str(folder / MANIFEST))
        (Path(aside) / MANIFEST).write_bytes(data)
        draft.replace(folder / "effects.npz")
        (Path(aside) / MANIFEST).replace(folder / MANIFEST)


def _require_replaceable(path: Path) -> None:
    """Raise BundleError unless ``path`` is an empty folder or a bundle and nothing else: --overwrite takes
    away no file that is not a bundle's."""
    if not path.is_dir():
        raise BundleError(f"{path}: expected a bundle to replace, got a file; choose another output")
    there = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    if not there:
        return
    try:
        manifest = read_manifest((path / MANIFEST).read_bytes(), str(path / MANIFEST))
    except (OSError, BundleError):
        raise BundleError(
            f"{path}: expected a bundle to replace, got a folder of something else; choose another output"
        ) from None
    networks = {network.file for network in manifest.networks.values()}
    files = {entry.file for entry in manifest.files.values()}
    others = sorted(there - {MANIFEST, COMPILED} - networks - files)
    if others:
        raise BundleError(
            f"{path}: expected a bundle to replace and nothing else, got {others[0]!r} beside it; "
            "move it away or choose another output"
        )


class _DiskGuard:
    """Turn a full or read-only disk into a BundleError."""

    def __init__(self, path: Path, file: str) -> None:
        self._path, self._file = path, file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise BundleError(
                f"{self._path}: cannot write {self._file}: {reason}; "
                "nothing was kept, free some space and repeat"
            ) from error
