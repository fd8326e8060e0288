"""Open a bundle and use it. Every sha256 is checked before a network is loaded.

The format is documented in ``manifest.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Session, open_session
from ..edit.direction import Direction
from ..edit.effect import Effect, effects_from_arrays
from ..encode import Encoder
from ..errors import BackendError, BundleError
from ..host.files import sha256_of
from ..manifest import MANIFEST, DataFile, Manifest, Network, read_manifest
from ..places import find_bundle
from ..types import Floats
from .compiled import Compiled, find_compiled, session_options
from .effects import measure_effects

# What runs where nothing was measured: the package's own synthesis for generators, ONNX Runtime for all else.
DEFAULT_BACKEND = "native"
REFERENCE_BACKEND = "onnxruntime"
# Small networks of small layers: a second thread costs more in waking up than it saves.
ONE_THREAD = frozenset({"detector", "landmarks"})


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

    @cached_property
    def effects(self) -> dict[str, Effect]:
        """What directions do to pictures, by name, as far as that is known."""
        return effects_from_arrays(self._arrays("effects")) if "effects" in self.manifest.files else {}

    def effect(self, name: str) -> Effect:
        """What the direction ``name`` does to pictures.

        Where the bundle does not say it, that is measured on the first call, by drawing some twenty pictures.
        """
        if name not in self.effects:
            self.effects.update(measure_effects(self, [name]))
        return self.effects[name]

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
        generator = None
        if info.loop == "restyle":
            generator = self.session(info.generator) if info.generator else self.generator(self.styles[0])
        landmarks = self.session("landmarks") if "landmarks" in self.manifest.networks else None
        appearance = self.latent.get("appearance")
        return Encoder(self.session("encoder"), info, self.latent_avg, generator, landmarks, appearance)

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
        for stated, actual in ((network.inputs, session.inputs), (network.outputs, session.outputs)):
            want, got = {t.name: tuple(t.shape) for t in stated}, {t.name: t.shape for t in actual}
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
