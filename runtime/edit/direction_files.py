"""Files of edit directions and of people's codes, in every format they come in.

What to load is written ``[NAME=]FILE[:INDEX[,FIRST,LAST]]``: NAME renames, INDEX picks one of a file that
holds many (GANSpace components, SeFa eigenvectors), FIRST and LAST limit it to rows FIRST..LAST-1::

    age.pt                          a direction named "age"
    turn=pose.pt                    the same with another name
    eyes=ffhq_pca.pt:54,7,8         GANSpace component 54 on row 7
    factor.pt:3                     eigenvector 3 of a closed-form factorization

=====================  =======================================================================
content                becomes
=====================  =======================================================================
[1,w] or [w]           the same offset for every row (InterFaceGAN)
[1,n,w] or [n,w]       an offset for each row
``mean comp std``      GANSpace: one component direction for each of ``comp``
``eigvec``             SeFa: one offset for each *column*
several arrays         one direction per array, named after it
[k,3], or layer -> S   StyleSpace: (layer, channel, value), see :class:`StyleSpaceOffset`
=====================  =======================================================================

Signs are those of the file; for ``age`` and ``smile`` of InterFaceGAN plus means older and smiling.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import EditError
from ..host.files import write_whole
from ..types import Floats
from .array_file import read_array_file
from .direction import Direction

__all__ = [
    "DirectionSpec",
    "StyleSpaceOffset",
    "load_codes",
    "load_directions",
    "parse_spec",
    "read_directions",
    "save_codes",
]

ArrayReader = Callable[[Path], Mapping[str, NDArray[Any]]]  # raises EditError
MANY = 10  # taken from a file that holds many, when none is picked

_SPEC = re.compile(r"(?:(?P<name>[A-Za-z0-9_-]+)=)?(?P<file>.+?)(?::(?P<pick>\d+(?:,\d+){0,2}))?")
_ENDS = {
    "age": ("younger", "older"),
    "smile": ("serious", "smiling"),
    "pose": ("turned one way", "turned the other way"),
}
_FADING = re.compile(r"gr[ae]y([_-]?hair)?", re.IGNORECASE)  # names of directions that take color away
_CODE_KEYS = ("w", "codes", "latent", "latents", "latent_code", "w_pivot", "projected_w")


@dataclass(frozen=True)
class DirectionSpec:
    """What a person asked for: see the top of this module."""

    path: Path
    name: str | None = None
    index: int | None = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class StyleSpaceOffset:
    """A StyleCLIP / StyleSpace edit: offsets of the modulation outputs S.

    changes: (layer, channel, value); layers count all modulations from the first convolution on, to_rgb
    included. It becomes a :class:`Direction` only with the generator's weights at hand.
    """

    name: str
    changes: tuple[tuple[int, int, float], ...]


def parse_spec(text: str | Path) -> DirectionSpec:
    """Read ``[NAME=]FILE[:INDEX[,FIRST,LAST]]``; a file that exists under the whole text wins."""
    if Path(text).is_file():
        return DirectionSpec(Path(text))
    match = _SPEC.fullmatch(str(text))
    if match is None:
        raise EditError(f"direction {str(text)!r}: expected [NAME=]FILE[:INDEX[,FIRST,LAST]], e.g. age.pt")
    picked = [int(part) for part in match["pick"].split(",")] if match["pick"] else []
    if len(picked) == 2:
        raise EditError(f"direction {str(text)!r}: expected one or three numbers after the colon")
    rows = (picked[1], picked[2]) if len(picked) == 3 else None
    return DirectionSpec(Path(match["file"]), match["name"], picked[0] if picked else None, rows)


def load_directions(text: str | Path, n_styles: int, w_dim: int) -> list[Direction]:
    """Directions of a ``.npy`` or ``.npz`` file, for a generator with codes [n_styles, w_dim].

    Raises EditError if the file holds none, one that does not fit, or one in StyleSpace.
    """
    directions: list[Direction] = []
    for direction in read_directions(text, n_styles, w_dim):
        if isinstance(direction, StyleSpaceOffset):
            raise EditError(
                f"direction {direction.name!r}: expected offsets of W or W+, got StyleSpace channels, which "
                "need a synthesis network with S inputs; doppelgan export --direction approximates them in W+"
            )
        directions.append(direction)
    return directions


def read_directions(
    text: str | Path,
    n_styles: int,
    w_dim: int,
    read: ArrayReader = read_array_file,  # `doppelgan export` has one that knows more kinds of files
) -> list[Direction | StyleSpaceOffset]:
    """As :func:`load_directions`, with StyleSpace edits as they are."""
    spec = parse_spec(text)
    arrays = read(spec.path)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            label = f"{spec.path.name}: {name}" if name else spec.path.name
            raise EditError(f"{label}: expected finite numbers, got NaN or infinity; download the file again")
    if {"mean", "comp", "std"} <= arrays.keys():
        return list(_ganspace(spec, arrays, n_styles, w_dim))
    if "eigvec" in arrays:
        return list(_eigenvectors(spec, arrays["eigvec"], n_styles, w_dim))
    style_space = _style_space(spec, arrays, w_dim)
    if style_space is not None:
        return [style_space]
    if spec.index is not None:
        raise EditError(f"{spec.path.name}: expected many vectors to pick from, got offsets; drop ':INDEX'")
    if spec.name is not None and len(arrays) > 1:
        raise EditError(f"{spec.path.name}: expected one direction to rename, got {len(arrays)}")
    stem = spec.name or _clean(spec.path.stem)
    return [
        _offset(stem if len(arrays) == 1 else _clean(key), array, spec, n_styles, w_dim)
        for key, array in arrays.items()
    ]


def load_codes(path: str | Path, n_styles: int, w_dim: int) -> Floats:
    """A person's code, or several: float32 [N, n_styles, w_dim].

    Accepts W ([w], [1,w], [N,1,w]; every row the same) and W+ ([n,w], [N,n,w]); of several arrays the one
    named ``w``, ``codes``, ``latent`` ... Raises EditError if nothing fits.
    """
    path = Path(path)
    arrays = read_array_file(path)
    if len(arrays) > 1:
        named = {k: v for k, v in arrays.items() if k.rpartition("/")[2] in _CODE_KEYS}
        if len(named) != 1:
            raise EditError(
                f"{path.name}: expected one code or an array named {' or '.join(_CODE_KEYS[:3])}, "
                f"got {', '.join(list(arrays)[:6])}; save the code alone"
            )
        arrays = named
    array = next(iter(arrays.values()))
    if array.ndim and array.shape[-1] == w_dim and np.isfinite(array).all():
        rows = array.shape[-2] if array.ndim > 1 else 1
        if array.ndim <= 3 and rows in (1, n_styles):
            codes = array.astype(np.float32).reshape(-1, rows, w_dim)
            return np.ascontiguousarray(np.broadcast_to(codes, (len(codes), n_styles, w_dim)))
    got = list(array.shape) if np.isfinite(array).all() else "NaN or infinity"
    raise EditError(
        f"{path.name}: expected a code [1,{w_dim}] or [N,{n_styles},{w_dim}], got {got}; "
        "use codes of the generator in this bundle"
    )


def save_codes(path: str | Path, codes: Floats) -> None:
    """Save codes [N, n_styles, w_dim] as ``.npz`` with key ``w``, which :func:`load_codes` reads."""
    path = Path(path)
    if codes.ndim != 3 or not np.isfinite(codes).all():
        raise EditError(f"codes: expected finite float32 [N, n_styles, w_dim], got {list(codes.shape)}")
    if path.suffix != ".npz":
        raise EditError(f"{path}: expected a name that ends in .npz; choose {path.with_suffix('.npz').name}")
    data = io.BytesIO()
    np.savez(data, w=codes.astype(np.float32))
    try:
        write_whole(path, data.getbuffer())
    except OSError as error:
        raise EditError(f"{path}: cannot be written: {error.strerror}; choose another place") from None


def _offset(name: str, array: NDArray[Any], spec: DirectionSpec, n_styles: int, w_dim: int) -> Direction:
    squeezed = array.reshape(array.shape[array.ndim - 2 :]) if array.size and _leading_ones(array) else array
    if squeezed.ndim == 1:
        squeezed = squeezed[None]
    if squeezed.ndim != 2 or squeezed.shape[1] != w_dim or len(squeezed) not in (1, n_styles):
        raise EditError(
            f"{spec.path.name}: expected a direction [1,{w_dim}] or [1,{n_styles},{w_dim}], "
            f"got {list(array.shape)}; use directions made for the generator in this bundle"
        )
    note = ""
    if array.dtype == np.float64:
        note = "float64, as the original InterFaceGAN's: valid only for the generator it was trained on"
    offset = np.broadcast_to(squeezed.astype(np.float32), (n_styles, w_dim))
    ends = _ENDS.get(spec.path.stem, ("less", "more"))
    hue: Literal["", "fades"] = "fades" if _FADING.fullmatch(name) else ""
    return Direction(name, offset, (-5.0, 5.0), "steps", ends, spec.rows, note, hue=hue)


def _ganspace(
    spec: DirectionSpec, arrays: Mapping[str, NDArray[Any]], n_styles: int, w_dim: int
) -> list[Direction]:  # fmt: skip
    mean, components, spread = arrays["mean"].ravel(), arrays["comp"], arrays["std"].ravel()
    count = len(components) if components.ndim else 0
    if mean.shape != (w_dim,) or components.size != count * w_dim or spread.shape != (count,):
        raise EditError(
            f"{spec.path.name}: expected mean [1,{w_dim}], comp [k,1,{w_dim}], std [k], got mean "
            f"{list(arrays['mean'].shape)}, comp {list(components.shape)}, std {list(arrays['std'].shape)}; "
            "use components made for the generator in this bundle"
        )
    components = components.reshape(count, w_dim)
    return [
        Direction.component(
            name, components[i], mean, float(spread[i]), n_styles, spec.rows,
            range=(-20.0, 20.0), unit="sigmas", note="strength is the coordinate reached; 0 is the average",
        )
        for name, i in _pick(spec, count)
    ]  # fmt: skip


def _eigenvectors(spec: DirectionSpec, vectors: NDArray[Any], n_styles: int, w_dim: int) -> list[Direction]:
    if vectors.ndim != 2 or len(vectors) != w_dim:
        raise EditError(
            f"{spec.path.name}: expected eigvec [{w_dim},k], a direction in each column, "
            f"got {list(vectors.shape)}; use a factorization of the generator in this bundle"
        )
    return [
        Direction(name, np.tile(vectors[:, i], (n_styles, 1)), (-5.0, 5.0), "steps", ("one way", "other way"),
                  spec.rows)
        for name, i in _pick(spec, vectors.shape[1])
    ]  # fmt: skip


def _pick(spec: DirectionSpec, count: int) -> list[tuple[str, int]]:
    """(name, index) of what was asked for in a file of ``count`` vectors."""
    stem = _clean(spec.path.stem)
    if spec.index is None:
        return [(f"{spec.name or stem}-{i}", i) for i in range(min(count, MANY))]
    if spec.index >= count:
        raise EditError(f"{spec.path.name}: expected an index 0..{count - 1}, got {spec.index}")
    return [(spec.name or f"{stem}-{spec.index}", spec.index)]


def _style_space(
    spec: DirectionSpec, arrays: Mapping[str, NDArray[Any]], w_dim: int
) -> StyleSpaceOffset | None:
    """The edit if the arrays look like one of S: triples [k,3], or a vector for each numbered layer."""
    changes: list[tuple[int, int, float]] = []
    lone = next(iter(arrays.values())) if len(arrays) == 1 else None
    if lone is not None and lone.ndim == 2 and lone.shape[1] == 3 and w_dim != 3:
        places = lone[:, :2]
        if (places != np.floor(places)).any() or (places < 0).any():
            raise EditError(f"{spec.path.name}: expected (layer, channel, value), got no whole indices")
        changes = [(int(layer), int(channel), float(value)) for layer, channel, value in lone]
    elif all(name.isdecimal() for name in arrays):
        for name, array in arrays.items():
            flat = array.ravel()
            if array.ndim == 0 or array.size != array.shape[-1]:
                got = list(array.shape)
                raise EditError(f"{spec.path.name}: expected a vector for layer {name}, got {got}")
            changes += [(int(name), int(channel), float(flat[channel])) for channel in np.flatnonzero(flat)]
    if not changes:
        return None
    return StyleSpaceOffset(spec.name or _clean(spec.path.stem), tuple(changes))


def _leading_ones(array: NDArray[Any]) -> bool:
    return set(array.shape[:-2]) == {1}


def _clean(name: str) -> str:
    """A direction's name from a file's or array's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "direction"
