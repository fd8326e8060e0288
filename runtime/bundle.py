"""Bundles: find, verify, open and use them; write new ones.

The format is documented in ``manifest.py``. Opening checks every sha256 before a network is loaded;
writing happens in a folder aside that is renamed when complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import Session, open_session
from .compiled import Compiled, find_compiled, session_options
from .edit import Direction
from .encode import Encoder
from .errors import BackendError, BundleError
from .files import sha256_of
from .manifest import (
    FORMAT,
    VERSION,
    DataFile,
    DirectionInfo,
    EncoderInfo,
    Manifest,
    Network,
    Parity,
    Source,
    Tensor,
    read_manifest,
    write_manifest,
)
from .types import Floats

MANIFEST = "manifest.json"
# What runs where nothing was measured: the package's own synthesis for generators, ONNX Runtime for all else.
DEFAULT_BACKEND = "native"
REFERENCE_BACKEND = "onnxruntime"
# Small networks of small layers: a second thread costs more in waking up than it saves.
ONE_THREAD = frozenset({"detector", "landmarks"})


def engine_folders() -> list[Path]:
    """Where bundles are looked up by name, first hit wins: $DOPPELGAN_ENGINES, ./engines, the package's."""
    configured = os.environ.get("DOPPELGAN_ENGINES", "")
    folders = [Path(part) for part in configured.split(os.pathsep) if part]
    return [*folders, Path("engines"), Path(__file__).parent.parent / "engines"]


def find_bundle(name_or_folder: str | Path) -> Path:
    """Folder of a bundle given by name or path. Raises BundleError listing the names there are."""
    folder = Path(name_or_folder)
    if (folder / MANIFEST).is_file():
        return folder
    if folder.is_dir() or len(folder.parts) != 1:
        state = "a folder without one" if folder.is_dir() else "no such folder"
        raise BundleError(f"{folder}: expected a bundle (a folder with {MANIFEST}), got {state}")
    for place in engine_folders():
        if (place / folder / MANIFEST).is_file():
            return place / folder
    names = ", ".join(sorted({path.name for path in list_bundles()})) or "none"
    raise BundleError(f"bundle {str(folder)!r}: not found; bundles here: {names}; or give the folder's path")


def list_bundles() -> list[Path]:
    """Folders of all bundles in :func:`engine_folders`; a name found twice counts once."""
    found: dict[str, Path] = {}
    for place in engine_folders():
        if place.is_dir():
            for manifest in sorted(place.glob(f"*/{MANIFEST}")):
                found.setdefault(manifest.parent.name, manifest.parent)
    return list(found.values())


def open_bundle(
    name_or_folder: str | Path = "demo",
    *,
    backend: str | None = None,  # None: as compiled for this machine, else "native"
    threads: int | None = None,  # per network; None: as compiled, or as the backend likes
    verify: bool = True,  # compare every file with its sha256
    compiled: bool = True,  # where no backend is given: what `doppelgan compile` chose; False: ONNX Runtime
) -> Bundle:
    """Open a bundle by name ("demo") or folder.

    ``backend="native"`` runs generators in this package's own synthesis, where it serves them and the
    processor, and everything else in ONNX Runtime.

    Raises BundleError if it is missing, of another version, damaged, or inconsistent.
    """
    path = find_bundle(name_or_folder)
    manifest = read_manifest((path / MANIFEST).read_bytes(), str(path / MANIFEST))
    files: dict[str, Network | DataFile] = {**manifest.networks, **manifest.files}
    for name, entry in files.items():
        _check_file(path / entry.file, entry.sha256 if verify else None, name)
    chosen = find_compiled(path, manifest) if compiled and backend is None else None
    backend = backend or (DEFAULT_BACKEND if compiled else REFERENCE_BACKEND)
    return Bundle(path, manifest, backend=backend, threads=threads, compiled=chosen, verified=verify)


class Bundle:
    """An opened bundle: networks are loaded on first use and shared by all callers.

    ``encode``, ``synthesize`` and ``map`` are the simple calls; a video goes through ``Pipeline``.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        *,
        backend: str,
        threads: int | None,
        compiled: Compiled | None = None,  # choices that go before ``backend``
        verified: bool = False,  # every file is what the manifest says
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.compiled = compiled
        self._backend = backend
        self._threads = threads
        self._verified = verified
        self._sessions: dict[str, Session] = {}

    @property
    def n_styles(self) -> int:
        return self.manifest.n_styles

    @property
    def w_dim(self) -> int:
        return self.manifest.w_dim

    @property
    def image_size(self) -> int:
        """Side of a synthesized picture, px."""
        return self.manifest.image_size

    @property
    def crop_size(self) -> int:
        """Side of the encoder's crop, px."""
        return self.manifest.crop_size

    @property
    def styles(self) -> tuple[str, ...]:
        """Generators that understand this bundle's codes, e.g. ("photo", "toon")."""
        return tuple(self.manifest.generators)

    @cached_property
    def latent(self) -> Mapping[str, NDArray[Any]]:
        """Arrays of latent.npz; see ``manifest.py``."""
        return self._arrays("latent")

    @property
    def latent_avg(self) -> Floats:
        """float32 [n_styles, w_dim]."""
        average: Floats = self.latent["latent_avg"]
        return average

    @cached_property
    def directions(self) -> dict[str, Direction]:
        """Edit directions by name."""
        if not self.manifest.directions:
            return {}
        arrays = self._arrays("directions")
        return {
            name: Direction.from_arrays(name, info, arrays, self.n_styles, self.w_dim)
            for name, info in self.manifest.directions.items()
        }

    def session(self, name: str) -> Session:
        """The network ``name``, loaded on first use. Raises BundleError if the bundle has none."""
        if name not in self._sessions:
            network = self.manifest.networks.get(name)
            if network is None:
                have = ", ".join(sorted(self.manifest.networks))
                raise BundleError(f"{self.path}: expected a network {name!r}, got only {have}")
            self._sessions[name] = self._open(name, network)
        return self._sessions[name]

    def generator(self, style: str = "photo") -> Session:
        """The synthesis network of ``style``. Raises BundleError for an unknown style."""
        if style not in self.manifest.generators:
            raise BundleError(f"{self.path}: expected a style of {', '.join(self.styles)}, got {style!r}")
        return self.session(self.manifest.generators[style])

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder with its loop. Raises BundleError if the bundle has only a generator."""
        info = self.manifest.encoder
        if info is None:
            raise BundleError(
                f"{self.path}: expected an encoder, got a generator only; "
                "export a pSp, e4e or ReStyle checkpoint to edit real faces"
            )
        generator = self.generator(self.styles[0]) if info.loop == "restyle" else None
        landmarks = self.session("landmarks") if "landmarks" in self.manifest.networks else None
        return Encoder(self.session("encoder"), info, self.latent_avg, generator, landmarks)

    def encode(
        self,
        crops: Floats,  # RGB float32 [N,3,S,S], -1..1, FFHQ-aligned
        steps: int | None = None,  # of the ReStyle loop; None: the bundle's own number
        landmarks: Floats | None = None,  # float32 [N,468,3] crop pixels; None: found in the crops
    ) -> Floats:
        """Invert faces: W+ codes float32 [N, n_styles, w_dim]."""
        return self.encoder(crops, steps=steps, landmarks=landmarks)

    def synthesize(
        self,
        codes: Floats,  # float32 [N, n_styles, w_dim]
        style: str = "photo",
    ) -> Floats:
        """Generate pictures: RGB float32 [N,3,R,R], nominally -1..1 (not clipped)."""
        session = self.generator(style)
        codes = _batch(codes, (self.n_styles, self.w_dim), "codes")
        return np.concatenate([session.run({"codes": code[None]})["image"] for code in codes])

    def map(self, z: Floats) -> Floats:
        """Map standard normal z float32 [N, z_dim] to w float32 [N, w_dim]."""
        if "mapping" not in self.manifest.networks:
            raise BundleError(f"{self.path}: expected a mapping network, got a bundle without; use codes")
        z = _batch(z, (self.manifest.z_dim,), "z")
        session = self.session("mapping")
        return np.concatenate([session.run({"z": one[None]})["w"] for one in z])

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        self.__dict__.pop("encoder", None)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, name: str, network: Network) -> Session:
        choice = None if self.compiled is None else self.compiled.choice(name, self.manifest)
        if choice is None or self.compiled is None:
            session = self._open_unmeasured(name, network)
        else:
            path = self.compiled.file(choice, self.path, network.file)
            threads = self._threads or choice.threads
            digest = choice.sha256 or self._digest(network)  # a variant's was compared just now
            options = session_options(choice)
            session = open_session(path, threads=threads, **options, **_vouched(choice.backend, digest))
        for stated, found in ((network.inputs, session.inputs), (network.outputs, session.outputs)):
            want, got = {t.name: tuple(t.shape) for t in stated}, {t.name: t.shape for t in found}
            if want != got:
                raise BundleError(f"{self.path / network.file}: expected tensors {want}, got {got}")
        return session

    def _open_unmeasured(self, name: str, network: Network) -> Session:
        path = self.path / network.file
        threads = 1 if name in ONE_THREAD else self._threads
        if self._backend != "native":
            vouched = _vouched(self._backend, self._digest(network))
            return open_session(path, backend=self._backend, threads=threads, **vouched)
        if name in self.manifest.generators.values():
            # A generator of another make, or a processor that is not served: no reason not to run it.
            with contextlib.suppress(BackendError):
                return open_session(path, backend="native", threads=threads)
        return open_session(path, backend=REFERENCE_BACKEND, threads=threads)

    def _digest(self, network: Network) -> str:
        return network.sha256 if self._verified else ""

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BundleError(f"{self.path}: expected a {name!r} file in the manifest, got none")
        with np.load(self.path / entry.file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}


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
        self._fields = fields
        self._networks: dict[str, Network] = {}
        self._files: dict[str, DataFile] = {}
        self._generators: dict[str, str] = {}
        self._directions: dict[str, Direction] = {}
        self._sources: list[Source] = []
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
        file = f"{name}.onnx"
        digest = self._store(file, onnx)
        self._networks[name] = Network(file, digest, inputs, outputs, precision, tuple(parity), gflop)

    def add_encoder(self, info: EncoderInfo, crop_size: int) -> None:
        """Say how the network "encoder" is used."""
        self._encoder, self._crop_size = info, crop_size

    def add_generator(self, style: str, network: str) -> None:
        self._generators[style] = network

    def add_latent(self, **arrays: NDArray[Any]) -> None:
        """latent_avg and whatever else ``manifest.py`` lists, as float32."""
        self.add_arrays("latent", {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()})

    def add_direction(self, direction: Direction) -> None:
        self._directions[direction.name] = direction

    def add_source(self, path: Path, layout: str, license: str = "") -> None:  # noqa: A002 - the manifest's word
        self._sources.append(Source(path.name, sha256_of(path), layout, license))

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
        if self.path.exists():
            shutil.rmtree(self.path)
        self.folder.replace(self.path)

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


def _check_file(path: Path, sha256: str | None, name: str) -> None:
    if not path.is_file():
        raise BundleError(f"{path}: expected the file of {name!r}, got none; the bundle is incomplete")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise BundleError(
            f"{path}: expected sha256 {sha256[:12]}..., got {found[:12]}...; "
            "the file was changed or damaged, export the bundle again"
        )


def _vouched(backend: str, sha256: str) -> dict[str, str]:
    """The option for the one backend that keeps what it compiled."""
    return {"verified_sha256": sha256} if backend == "openvino" else {}


def _batch(array: Floats, shape: tuple[int, ...], what: str) -> Floats:
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        raise ValueError(f"{what}: expected float32 {['N', *shape]}, got {array.dtype} {list(array.shape)}")
    return np.ascontiguousarray(array, np.float32)
