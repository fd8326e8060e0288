"""MediaPipe's face detector and face mesh as ONNX networks for the tracker.

The PyPI wheel mediapipe 0.10.21 carries them as TFLite files (Apache License 2.0); it is read, never run:

    pip download --no-deps mediapipe==0.10.21 --python-version 3.11 --only-binary=:all: -d wheels
    python -m doppelgan.export.trackers wheels/mediapipe-*.whl -o trackers

writes ``detector.onnx`` and ``landmarks.onnx``, batch 1, float32, fixed shapes:

    detector   image [1,3,S,S] RGB -1..1  ->  boxes [1,N,16] input pixels, scores [1,N] 0..1
    landmarks  image [1,3,S,S] RGB -1..1  ->  points [1,P,3] input pixels, score [1,1] 0..1

A row of ``boxes`` is center x, center y, width, height, then six (x, y): right eye, left eye, nose tip,
mouth, right ear, left ear (the person's own right and left). Input pixels have their *edges* at integers.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import onnx
from doppelgan.runtime.errors import CheckpointError, DoppelganError
from numpy.typing import NDArray

from .tflite_convert import Converter, GraphBuilder
from .tflite_reader import Model, read_model

DETECTOR_MEMBERS = {
    "short": "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    "full": "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
}
MESH_MEMBER = "mediapipe/modules/face_landmark/face_landmark.tflite"
_REMEDY = "give the mediapipe 0.10.21 wheel from PyPI, or the folder it was unpacked to"


def read_member(source: Path, member: str) -> bytes:
    """One file out of a wheel, or out of a folder (unpacked wheel, or the files side by side)."""
    if source.is_dir():
        for path in (source / member, source / Path(member).name):
            if path.is_file():
                return path.read_bytes()
        raise CheckpointError(f"{source}: expected {Path(member).name} in it, found none; {_REMEDY}")
    try:
        with zipfile.ZipFile(source) as wheel:
            return wheel.read(member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{source}: expected a wheel that holds {member}, got {error}; {_REMEDY}"
        ) from error


def anchors(size: int, strides: Sequence[int], per_cell: Sequence[int]) -> NDArray[np.float32]:
    """Anchor centers in input pixels, float32 [N,2] (x, y): per stride, row by row, each cell repeated."""
    layers = []
    for stride, repeats in zip(strides, per_cell, strict=True):
        cells = np.arange(-(-size // stride), dtype=np.float32)
        x, y = np.meshgrid((cells + 0.5) * stride, (cells + 0.5) * stride)
        layers.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), repeats, axis=0))
    return np.concatenate(layers)


def convert_detector(model: Model) -> onnx.ModelProto:
    """BlazeFace: raw offsets become boxes around their anchors, logits become scores."""
    graph, converter, size = _start(model)
    converter.run({model.inputs[0]: "image"})
    shapes = {index: model.tensors[index].shape for index in model.outputs}
    raw_boxes, raw_scores = sorted(shapes, key=lambda index: -shapes[index][-1])
    count = shapes[raw_boxes][1]
    # Short range: 2 anchors per cell of stride 8, 6 per cell of stride 16. Full range: 1 of stride 4.
    layouts = {896: ((8, 16), (2, 6)), 2304: ((4,), (1,))}
    if count not in layouts or shapes[raw_boxes] != (1, count, 16) or shapes[raw_scores] != (1, count, 1):
        raise CheckpointError(
            f"detector: expected outputs [1,896|2304,16] and [...,1], got {shapes}; {_REMEDY}"
        )
    centers = anchors(size, *layouts[count])
    offset = np.zeros((1, count, 16), np.float32)
    offset[0] = np.concatenate([centers, np.zeros_like(centers), np.tile(centers, 6)], axis=1)

    graph.op("Add", converter.value(raw_boxes), graph.constant(offset), name="boxes")
    flat = graph.op("Reshape", converter.value(raw_scores), graph.shape(1, count))
    graph.op("Sigmoid", flat, name="scores")
    graph.output("boxes", (1, count, 16))
    graph.output("scores", (1, count))
    return graph.model("detector")


def convert_landmarks(model: Model) -> onnx.ModelProto:
    """Face mesh: 468 points and the presence score."""
    graph, converter, _ = _start(model)
    # The original takes 0..1.
    half = graph.constant(0.5)
    converter.run({model.inputs[0]: graph.op("Add", graph.op("Mul", "image", half), half)})
    points, flag = sorted(model.outputs, key=lambda index: -model.tensors[index].shape[-1])
    if [model.tensors[i].shape for i in (points, flag)] != [(1, 1, 1, 1404), (1, 1, 1, 1)]:
        raise CheckpointError(f"landmarks: expected outputs of 1404 and 1 numbers, got others; {_REMEDY}")
    graph.op("Reshape", converter.value(points), graph.shape(1, 468, 3), name="points")
    graph.op("Sigmoid", graph.op("Reshape", converter.value(flag), graph.shape(1, 1)), name="score")
    graph.output("points", (1, 468, 3))
    graph.output("score", (1, 1))
    return graph.model("landmarks")


def _start(model: Model) -> tuple[GraphBuilder, Converter, int]:
    shape = model.tensors[model.inputs[0]].shape
    if len(model.inputs) != 1 or len(shape) != 4 or shape[0] != 1 or shape[1] != shape[2] or shape[3] != 3:
        raise CheckpointError(f"expected one image input [1,S,S,3], got {list(shape)}; {_REMEDY}")
    graph = GraphBuilder()
    graph.input("image", (1, 3, shape[1], shape[2]))
    return graph, Converter(model, graph), shape[1]


def export_trackers(source: Path, folder: Path, *, detector: str = "full") -> list[Path]:
    """Write ``detector.onnx`` and ``landmarks.onnx`` into ``folder`` and return their paths.

    source: the wheel or an unpacked folder.  detector: ``full`` (192 px input, finds faces of a tenth of
    the frame) or ``short`` (128 px, a third of the time).
    Raises CheckpointError; nothing is written unless both convert.
    """
    jobs: dict[str, tuple[str, Callable[[Model], onnx.ModelProto]]] = {
        "detector": (DETECTOR_MEMBERS[detector], convert_detector),
        "landmarks": (MESH_MEMBER, convert_landmarks),
    }
    files: dict[Path, bytes] = {}
    for name, (member, convert) in jobs.items():
        data = read_member(source, member)
        model = convert(read_model(data, name=member))
        onnx.helper.set_model_props(
            model,
            {
                "source": Path(member).name,
                "source_sha256": hashlib.sha256(data).hexdigest(),
                "license": "Apache-2.0, The MediaPipe Authors",
            },
        )
        files[folder / f"{name}.onnx"] = model.SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        path.write_bytes(content)
    return list(files)


@click.command(help=(__doc__ or "").split("\n", 1)[0])
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--detector", type=click.Choice(sorted(DETECTOR_MEMBERS)), default="full", show_default=True)
def main(source: Path, output: Path, detector: str) -> None:
    try:
        paths = export_trackers(source, output, detector=detector)
    except DoppelganError as error:
        click.echo(f"doppelgan: error: {error}", err=True)
        raise SystemExit(2) from None
    for path in paths:
        click.echo(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
