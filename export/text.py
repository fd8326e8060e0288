"""StyleCLIP's global directions: texts become edits of StyleSpace, by a matrix and a text encoder.

``[NAME=]MATRIX@FOLDER:NEUTRAL>TARGET[:BETA]`` in place of a direction's file, for example
``older=fs3.npy@clip/:a face>an old face:0.12``. MATRIX [channels, d] says how each channel of StyleSpace
moves pictures in the space of text and pictures; its rows are the channels of the convolutions, with or
without those of to_rgb. FOLDER holds ``model.onnx`` or ``text_model.onnx`` (token ids [N, L] -> vectors
[N, d]) and ``tokenizer.json``. Channels that answer by less than BETA stay; more of them give stronger and
less pure edits.

Source: Patashnik et al., "StyleCLIP: Text-Driven Manipulation of StyleGAN Imagery", ICCV 2021, section 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doppelgan.runtime.edit.direction_files import StyleSpaceOffset
from doppelgan.runtime.errors import EditError
from numpy.typing import NDArray

from .checkpoints.array_files import read_arrays
from .networks.stylegan2 import Affine, GeneratorWeights, Mapping

BETA = 0.1
_TEMPLATES = ("a photo of {}", "a portrait of {}", "a close-up photo of {}", "a good photo of {}", "{}")
_SPEC = re.compile(
    r"(?:(?P<name>[A-Za-z0-9_-]+)=)?(?P<matrix>[^@]+)@(?P<folder>[^:]+):(?P<neutral>[^>:]+)>(?P<target>[^:]+?)"
    r"(?::(?P<beta>[0-9.]+))?"
)
_MODELS = ("text_model.onnx", "model.onnx", "onnx/text_model.onnx", "onnx/model.onnx")
_SAMPLES = 512  # of w, for the spread of each channel
_LENGTH = 77  # tokens of a text, where the network does not say

TextEncoder = Callable[[Sequence[str]], NDArray[np.float64]]  # texts -> vectors [n, d]


@dataclass(frozen=True)
class TextSpec:
    """What a person asked for: see the top of this module."""

    name: str
    matrix: Path
    folder: Path
    neutral: str
    target: str
    beta: float = BETA


def parse_text_spec(text: str | Path) -> TextSpec | None:
    """None if this is not the description of a direction by text."""
    match = None if Path(text).is_file() else _SPEC.fullmatch(str(text))
    if match is None:
        return None
    name = match["name"] or re.sub(r"[^A-Za-z0-9_-]+", "_", match["target"]).strip("_") or "text"
    beta = float(match["beta"] or BETA)
    neutral, target = match["neutral"].strip(), match["target"].strip()
    return TextSpec(name, Path(match["matrix"]), Path(match["folder"]), neutral, target, beta)


def text_direction(
    spec: TextSpec, weights: GeneratorWeights, layers: Sequence[Affine], encode: TextEncoder | None = None
) -> StyleSpaceOffset:
    """The edit: one spread of the most responsive channel for strength 1.

    Raises EditError for files that do not fit. layers: the modulations in StyleSpace's order.
    encode: default, the network in the spec's folder.
    """
    matrix = _matrix(spec.matrix)
    encode = encode or read_text_encoder(spec.folder)
    step = _mean_of(encode, spec.target) - _mean_of(encode, spec.neutral)
    if matrix.shape[1] != len(step):
        raise EditError(
            f"{spec.matrix.name}: expected a matrix [channels,{len(step)}] for this text encoder, got "
            f"{list(matrix.shape)}; use those of one CLIP model"
        )
    length = float(np.linalg.norm(step))
    if length < 1e-6:
        raise EditError(f"{spec.neutral!r} > {spec.target!r}: expected two texts that mean different things")
    answers = matrix @ (step / length)
    chosen = np.abs(answers) >= spec.beta
    if not chosen.any():
        raise EditError(
            f"{spec.target!r}: expected channels that answer by {spec.beta:g} or more, got at most "
            f"{np.abs(answers).max():.3f}; say a smaller BETA"
        )
    answers = np.where(chosen, answers, 0) / np.abs(answers).max()
    places = _places(len(answers), layers, weights, spec.matrix.name)
    spread = _spreads(weights, layers)
    changes = [
        (layer, channel, float(answers[row] * spread[layer][channel]))
        for row, (layer, channel) in enumerate(places)
        if chosen[row]
    ]
    return StyleSpaceOffset(spec.name, tuple(changes))


def read_text_encoder(folder: Path) -> TextEncoder:
    """A text encoder of the user's: ONNX network and tokenizer. EditError if one of them is missing."""
    network = next((folder / name for name in _MODELS if (folder / name).is_file()), None)
    tokens = folder / "tokenizer.json"
    if network is None or not tokens.is_file():
        missing = "tokenizer.json" if network else " or ".join(_MODELS[:2])
        raise EditError(f"{folder}: expected a text encoder and its tokenizer, got no {missing}")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise EditError("a direction by text needs the package tokenizers: pip install tokenizers") from None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(tokens))
    shape = session.get_inputs()[0].shape
    size = shape[1] if len(shape) > 1 and isinstance(shape[1], int) else _LENGTH
    tokenizer.enable_truncation(size)
    tokenizer.enable_padding(length=size)
    inputs = {one.name: one.type for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]
    wanted = next((name for name in ("text_embeds", "pooler_output") if name in outputs), outputs[0])

    def encode(texts: Sequence[str]) -> NDArray[np.float64]:
        encoded = tokenizer.encode_batch(list(texts))
        every = {
            "input_ids": [one.ids for one in encoded],
            "attention_mask": [one.attention_mask for one in encoded],
        }
        first = next(iter(inputs))
        given: dict[str, Any] = {}
        for name, kind in inputs.items():
            values = every.get(name, every["input_ids"] if name == first else every["attention_mask"])
            given[name] = np.array(values, np.int32 if "int32" in kind else np.int64)
        vectors = np.asarray(session.run([wanted], given)[0], np.float64)
        if vectors.ndim != 2:
            raise EditError(f"{network}: expected a vector for each text, got {list(vectors.shape)}")
        return vectors

    return encode


def _mean_of(encode: TextEncoder, text: str) -> NDArray[np.float64]:
    vectors = encode([template.format(text) for template in _TEMPLATES])
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    mean = vectors.mean(axis=0)
    unit: NDArray[np.float64] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _matrix(path: Path) -> NDArray[np.float64]:
    arrays = read_arrays(path)
    matrix = next(iter(arrays.values()))
    if len(arrays) != 1 or matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise EditError(f"{path.name}: expected one finite matrix [channels, d], got {list(matrix.shape)}")
    return matrix.astype(np.float64)


def _places(
    rows: int, layers: Sequence[Affine], weights: GeneratorWeights, name: str
) -> list[tuple[int, int]]:
    """(layer, channel) of each row of the matrix."""
    colors = {id(rgb.affine) for rgb in weights.rgbs}
    everything = [(k, c) for k, layer in enumerate(layers) for c in range(len(layer.bias))]
    of_convs = [(k, c) for k, c in everything if id(layers[k]) not in colors]
    for places in (of_convs, everything):
        if rows == len(places):
            return places
    raise EditError(
        f"{name}: expected {len(of_convs)} rows, one for each channel of this generator's convolutions, or "
        f"{len(everything)} with those of to_rgb, got {rows}; use a matrix made for it"
    )


def _spreads(weights: GeneratorWeights, layers: Sequence[Affine]) -> list[NDArray[np.float64]]:
    """Standard deviation of every style over people, by layer."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if weights.mapping:
            w = Mapping(weights)(torch.randn(_SAMPLES, weights.z_dim, generator=noise))
        else:
            w = torch.randn(_SAMPLES, weights.w_dim, generator=noise)
        return [(w @ layer.weight.float().T).std(0).double().numpy() for layer in layers]
