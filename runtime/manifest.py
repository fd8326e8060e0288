"""The bundle format, version 1.

A bundle is a folder. ``manifest.json`` names everything in it; nothing else is trusted::

    engines/demo/
        manifest.json
        encoder.onnx  mapping.onnx  synthesis.onnx  synthesis-toon.onnx
        detector.onnx  landmarks.onnx
        latent.npz  directions.npz  MODEL_CARD.md
        compiled/                     optional: faster variants for one machine (see `doppelgan compile`)

The manifest is UTF-8 JSON with exactly the fields of :class:`Manifest`:

``format``, ``version``     ``"doppelgan-bundle"``, ``1``
``name``, ``description``, ``license``, ``created``   for people; ``created`` is an ISO 8601 date
``n_styles``, ``w_dim``, ``z_dim``   shape of a W+ code [n_styles, w_dim]; length of z (0: no mapping)
``image_size``              side R of a synthesized picture, pixels
``crop_size``               side S of the encoder's crop, pixels (0: no encoder)
``encoder``                 how codes come about, see :class:`EncoderInfo`
``generators``              style -> synthesis network: ``{"photo": "synthesis", "toon": "synthesis-toon"}``;
                            ``toon@32``: a step from the first to ``toon``, see :func:`style_steps`
``networks``                name -> :class:`Network`: file, sha256, tensors, precision, parity
``files``                   name -> :class:`DataFile`: ``latent``, ``directions``, ``effects``, ``card``,
                            ``clip``; ``picture`` of an enrolled person; ``person`` that a base carries
``directions``              name -> :class:`DirectionInfo`; arrays live in the ``directions`` file
``sources``                 the files that the bundle was made from, with sha256 and layout
``enrollment``              of a bundle of one person: what it was tuned from and how, see :class:`Enrollment`

Networks and their tensors (all float32 unless the network's ``precision`` says otherwise, fixed shapes,
batch 1):

=====================  =======================================================  ======================
network                inputs                                                   outputs
=====================  =======================================================  ======================
``encoder``            ``crop`` [1,3,S,S] RGB -1..1 (ReStyle: [1,6,S,S]) and    ``codes`` [1,n,w], the
                       optionally ``landmarks`` [1,468,3] in crop pixels        average already added
                                                                                (ReStyle: a residue)
                       with a memory also ``memory`` [1,a], what is known of    ``appearance`` [1,a] that
                       appearance, and ``trust`` [1,1], its share, 0..1         ``codes`` were made of
``mapping``            ``z`` [1,z_dim] standard normal                          ``w`` [1,w_dim]
``synthesis*``         ``codes`` [1,n_styles,w_dim]                             ``image`` [1,3,R,R] RGB,
                                                                                -1..1, not clipped
``detector``           see ``track.py``                                         face boxes and scores
``landmarks``          see ``track.py``                                         468 points and presence
=====================  =======================================================  ======================

``latent.npz`` holds float32 arrays: ``latent_avg`` [n_styles,w_dim]; optionally ``w_std`` [w_dim], the
spread of W; ``appearance_std`` [a], how much the encoder's ``appearance`` differs between people;
``samples`` [m,n_styles,w_dim], codes of invented people. A bundle of one person adds ``pivot``
[n_styles,w_dim], the code that it was tuned at, and, where the encoder has a memory, ``appearance`` [a],
what the memory starts from.

``effects.npz`` holds what was measured of the directions: ``runtime/edit/effect.py``. A bundle may lack it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from .errors import BundleError
from .host.files import NOT_JSON, is_plain_name, json_file

MANIFEST = "manifest.json"  # the file's name
FORMAT = "doppelgan-bundle"
VERSION = 1
STEP = "@"  # in the name of a style that is a step on the way to another


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor at a network's border."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One measured comparison of a network with what it was made from."""

    step: str  # "torch float32 -> onnxruntime", "original float32 -> fp16" ...
    max_abs: float
    relative_l2: float
    tolerance: float  # on relative_l2
    psnr_db: float | None = None  # images only
    samples: int = 1


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One engine of the bundle."""

    file: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    precision: str = "float32"
    parity: tuple[Parity, ...] = ()
    gflop: float | None = None  # of one run; one multiply-add is two operations


class EncoderInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the encoder network is used."""

    kind: str  # the checkpoint's encoder_type, or "demo"
    loop: Literal["one-pass", "restyle"] = "one-pass"
    steps: int = 1  # of the ReStyle loop
    generator: str = ""  # network that draws in the loop; none: the first of ``generators``


class DataFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that is no network."""

    file: str
    sha256: str


class DirectionInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What people need to know of a direction; its arrays are in ``directions.npz``."""

    kind: Literal["offset", "component", "bounded", "return", "affine"] = "offset"  # see `edit/direction.py`
    range: tuple[float, float] = (-1.0, 1.0)
    unit: str = ""
    ends: tuple[str, str] = ("less", "more")
    rows: tuple[int, int] | None = None  # first, last (exclusive); None: all
    note: str = ""
    moves: str = ""  # what goes along, in words
    where: Literal["", "eyes"] = ""  # the only part of a face that it changes; "": any
    hue: Literal["", "fades"] = ""  # "fades": above 0 it takes color away and brings none, as grey does


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file that the bundle was made from."""

    file: str
    sha256: str
    layout: str
    license: str = ""


class Enrollment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a bundle of one person came about. Their picture is not in it unless they asked for that."""

    base: str  # name of the bundle that was tuned
    base_sha256: str  # of its generator that was tuned
    frames: int  # of the person
    steps: int
    cpu_s: float  # processor time of the tuning
    psnr_db: tuple[float, float]  # of the person's calm frame, before and after
    date: str  # ISO 8601
    consent: str  # who confirmed that the person consented
    motion: Literal["absolute", "relative"] = "absolute"  # how a driver moves it unless told otherwise


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """manifest.json; fields as documented at the top of this module."""

    # First, and always written although they have defaults: they are what tells a bundle from any JSON.
    format: str
    version: int
    name: str
    n_styles: int
    w_dim: int
    image_size: int
    networks: dict[str, Network]
    generators: dict[str, str]
    files: dict[str, DataFile]
    crop_size: int = 0
    z_dim: int = 0
    description: str = ""
    license: str = ""
    created: str = ""
    encoder: EncoderInfo | None = None
    directions: dict[str, DirectionInfo] = {}
    sources: tuple[Origin, ...] = ()
    enrollment: Enrollment | None = None


def read_manifest(data: bytes, where: str) -> Manifest:
    """Decode and check ``manifest.json``. Raises BundleError naming ``where`` and the offending field."""
    try:
        head = msgspec.json.decode(data)
    except NOT_JSON as error:
        raise BundleError(f"{where}: expected JSON, got {error}; export the bundle again") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        name = head.get("format") if isinstance(head, dict) else type(head).__name__
        raise BundleError(f"{where}: expected format {FORMAT!r}, got {name!r}; is this a doppelgan bundle?")
    if head.get("version") != VERSION:
        raise BundleError(
            f"{where}: expected version {VERSION}, got {head.get('version')!r}; "
            "export the bundle with this release, or update doppelgan"
        )
    try:
        manifest = msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{where}: not a valid manifest: {error}; export the bundle again") from None
    _check(manifest, where)
    return manifest


def step_name(style: str, pixels: int) -> str:
    """The style that draws like ``style`` from so many pixels on, and like a bundle's first below."""
    return f"{style}{STEP}{pixels}"


def style_steps(generators: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Styles to choose from, each with the dial that leads to it: ("photo", "toon@64", "toon@32", "toon").

    Every step draws a little more like the style it leads to. A style without steps has only itself.
    """
    styles = tuple(generators)
    steps: dict[str, list[tuple[int, str]]] = {}
    for style in styles:
        base, _, pixels = style.rpartition(STEP)
        if base in styles[1:] and pixels.isascii() and pixels.isdigit():
            steps.setdefault(base, []).append((int(pixels), style))
    between = {base: tuple(name for _, name in sorted(found, reverse=True)) for base, found in steps.items()}
    inner = {name for names in between.values() for name in names}
    return {
        style: (styles[0], *between[style], style) if style in between else (style,)
        for style in styles
        if style not in inner
    }


def write_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON."""
    return json_file(manifest)


def _check(manifest: Manifest, where: str) -> None:
    """Cross-field rules that types cannot say."""
    code = (1, manifest.n_styles, manifest.w_dim)
    image = (1, 3, manifest.image_size, manifest.image_size)
    for style, name in manifest.generators.items():
        network = manifest.networks.get(name)
        if network is None:
            raise BundleError(f"{where}: generator {style!r} names network {name!r}, which is not there")
        _expect(where, name, network.inputs, "codes", code)
        _expect(where, name, network.outputs, "image", image)
    if manifest.encoder is not None:
        network = manifest.networks.get("encoder")
        if network is None:
            raise BundleError(f"{where}: has encoder settings but no network 'encoder'")
        channels = 6 if manifest.encoder.loop == "restyle" else 3
        crop = (1, channels, manifest.crop_size, manifest.crop_size)
        if manifest.encoder.generator and manifest.encoder.generator not in manifest.networks:
            raise BundleError(
                f"{where}: the encoder names network {manifest.encoder.generator!r}, which is not there"
            )
        _expect(where, "encoder", network.inputs, "crop", crop)
        _expect(where, "encoder", network.outputs, "codes", code)
        memory = {t.name: t.shape for t in network.inputs}.get("memory")
        if memory is not None:
            _expect(where, "encoder", network.inputs, "trust", (1, 1))
            _expect(where, "encoder", network.outputs, "appearance", memory)
    if "mapping" in manifest.networks:
        _expect(where, "mapping", manifest.networks["mapping"].inputs, "z", (1, manifest.z_dim))
        _expect(where, "mapping", manifest.networks["mapping"].outputs, "w", (1, manifest.w_dim))
    entries: list[Network | DataFile] = [*manifest.networks.values(), *manifest.files.values()]
    for entry in entries:
        if not is_plain_name(entry.file):
            raise BundleError(f"{where}: expected a file name inside the bundle, got {entry.file[:80]!r}")


def _expect(where: str, name: str, tensors: tuple[Tensor, ...], tensor: str, shape: tuple[int, ...]) -> None:
    shapes = {t.name: t.shape for t in tensors}
    if shapes.get(tensor) != shape:
        got = list(shapes[tensor]) if tensor in shapes else f"only {sorted(shapes)}"
        raise BundleError(f"{where}: network {name!r}: expected {tensor} {list(shape)}, got {got}")
