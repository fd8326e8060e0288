"""Tiny networks with known answers, and a bundle made of them; no training, no torch, kilobytes.

The generator paints the mean of each style row into a flat color; the encoder answers with the crop's
mean color, so that encode and synthesize together give back a picture of that color.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from doppelgan.runtime.bundle import BundleWriter
from doppelgan.runtime.edit import Direction
from doppelgan.runtime.manifest import EncoderInfo, Parity, Tensor
from onnx import TensorProto, helper, numpy_helper

STYLES, W_DIM, Z_DIM, SIZE = 4, 6, 6, 16


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int]],
    outputs: dict[str, Sequence[int]],
    constants: dict[str, np.ndarray],
) -> bytes:
    """A float32 ONNX model as bytes."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


def encoder(channels: int = 3) -> bytes:
    """Mean color of the crop's first three channels in the first three coordinates of every row."""
    spread = np.zeros((channels, STYLES * W_DIM), np.float32)
    for row in range(STYLES):
        for color in range(3):
            spread[color, row * W_DIM + color] = 1
    return model(
        [
            helper.make_node("GlobalAveragePool", ["crop"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "spread"], ["line"]),
            helper.make_node("Reshape", ["line", "shape"], ["codes"]),
        ],
        {"crop": [1, channels, SIZE, SIZE]},
        {"codes": [1, STYLES, W_DIM]},
        {"spread": spread, "shape": np.array([1, STYLES, W_DIM], np.int64)},
    )


def remembering_encoder() -> bytes:
    """With a memory of one number: appearance is the crop's mean red, motion its mean green, which passes."""
    pick = np.zeros((2, STYLES * W_DIM), np.float32)
    pick[0, ::W_DIM] = pick[1, 1::W_DIM] = 1
    return model(
        [
            helper.make_node("GlobalAveragePool", ["crop"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gather", ["flat", "red"], ["read"], axis=1),
            helper.make_node("Gather", ["flat", "green"], ["motion"], axis=1),
            helper.make_node("Sub", ["memory", "read"], ["known"]),
            helper.make_node("Mul", ["known", "trust"], ["trusted"]),
            helper.make_node("Add", ["read", "trusted"], ["appearance"]),
            helper.make_node("Concat", ["appearance", "motion"], ["both"], axis=1),
            helper.make_node("MatMul", ["both", "pick"], ["line"]),
            helper.make_node("Reshape", ["line", "shape"], ["codes"]),
        ],
        {"crop": [1, 3, SIZE, SIZE], "memory": [1, 1], "trust": [1, 1]},
        {"codes": [1, STYLES, W_DIM], "appearance": [1, 1]},
        {
            "red": np.array([0], np.int64),
            "green": np.array([1], np.int64),
            "pick": pick,
            "shape": np.array([1, STYLES, W_DIM], np.int64),
        },
    )


def residual_encoder() -> bytes:
    """ReStyle's interface: half of the difference between the crop's and the picture's mean color."""
    spread = np.zeros((6, STYLES * W_DIM), np.float32)
    for row in range(STYLES):
        for color in range(3):
            spread[color, row * W_DIM + color] = 0.5
            spread[3 + color, row * W_DIM + color] = -0.5
    return model(
        [
            helper.make_node("GlobalAveragePool", ["crop"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "spread"], ["line"]),
            helper.make_node("Reshape", ["line", "shape"], ["codes"]),
        ],
        {"crop": [1, 6, SIZE, SIZE]},
        {"codes": [1, STYLES, W_DIM]},
        {"spread": spread, "shape": np.array([1, STYLES, W_DIM], np.int64)},
    )


def synthesis(invert: bool = False) -> bytes:
    """Mean over rows of the first three coordinates as a flat RGB picture."""
    pick = np.zeros((W_DIM, 3), np.float32)
    pick[:3] = -np.eye(3) if invert else np.eye(3)
    return model(
        [
            helper.make_node("ReduceMean", ["codes", "axis"], ["w"], keepdims=0),
            helper.make_node("MatMul", ["w", "pick"], ["color"]),
            helper.make_node("Reshape", ["color", "pixel"], ["one"]),
            helper.make_node("Expand", ["one", "full"], ["image"]),
        ],
        {"codes": [1, STYLES, W_DIM]},
        {"image": [1, 3, SIZE, SIZE]},
        {
            "axis": np.array([1], np.int64),
            "pick": pick,
            "pixel": np.array([1, 3, 1, 1], np.int64),
            "full": np.array([1, 3, SIZE, SIZE], np.int64),
        },
    )


def mapping() -> bytes:
    """w = 2 z."""
    return model(
        [helper.make_node("MatMul", ["z", "weight"], ["w"])],
        {"z": [1, Z_DIM]},
        {"w": [1, W_DIM]},
        {"weight": 2 * np.eye(Z_DIM, W_DIM, dtype=np.float32)},
    )


def directions() -> list[Direction]:
    """``red`` and ``green`` move the color that their name says."""
    made = []
    for axis, name in enumerate(("red", "green")):
        offset = np.zeros((STYLES, W_DIM), np.float32)
        offset[:, axis] = 0.25
        made.append(Direction(name, offset, range=(-2.0, 2.0), unit="quarters"))
    return made


def write_bundle(
    path: Path,
    *,
    restyle: bool = False,
    remembers: bool = False,
    toon: bool = True,
    overwrite: bool = False,
) -> Path:
    """A whole bundle (without trackers) at ``path``."""
    crop = Tensor("crop", "float32", (1, 6 if restyle else 3, SIZE, SIZE))
    codes = Tensor("codes", "float32", (1, STYLES, W_DIM))
    image = Tensor("image", "float32", (1, 3, SIZE, SIZE))
    writer = BundleWriter(
        path,
        overwrite=overwrite,
        name=path.name,
        n_styles=STYLES,
        w_dim=W_DIM,
        z_dim=Z_DIM,
        image_size=SIZE,
        license="test",
    )
    with writer as bundle:
        network = residual_encoder() if restyle else encoder()
        inputs, outputs = (crop,), (codes,)
        if remembers:
            network = remembering_encoder()
            memory, trust, appearance = (
                Tensor(name, "float32", (1, 1)) for name in ("memory", "trust", "appearance")
            )
            inputs, outputs = (crop, memory, trust), (codes, appearance)
        bundle.add_network("encoder", network, inputs, outputs)
        loop = EncoderInfo("tiny", "restyle", 5) if restyle else EncoderInfo("tiny")
        bundle.add_encoder(loop, SIZE)
        parity = Parity("made -> made", 0.0, 0.0, 1e-4, 120.0)
        bundle.add_network("synthesis", synthesis(), (codes,), (image,), parity=(parity,))
        bundle.add_generator("photo", "synthesis")
        if toon:
            bundle.add_network("synthesis-toon", synthesis(invert=True), (codes,), (image,))
            bundle.add_generator("toon", "synthesis-toon")
        bundle.add_network(
            "mapping", mapping(), (Tensor("z", "float32", (1, Z_DIM)),), (Tensor("w", "float32", (1, W_DIM)),)
        )
        bundle.add_latent(latent_avg=np.zeros((STYLES, W_DIM)), w_std=np.ones(W_DIM))
        for direction in directions():
            bundle.add_direction(direction)
    return path
