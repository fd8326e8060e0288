"""Every reader of files that people may bring, with small good files to start from."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

LONG_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:AISystemUsed="a"/></rdf:RDF>'
    b"</x:xmpmeta>"
)
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """seeds: makes good files; read: reads one; suffix: of the file's name."""

    seeds: Callable[[Path], list[bytes]]
    read: Callable[[], Read]  # imports what is needed, once
    suffix: str


def _picture() -> Any:
    y, x = np.mgrid[0:40, 0:56]
    return np.dstack([x * 4, y * 5, x + y]).astype(np.uint8)


def _pictures(folder: Path) -> list[bytes]:
    from doppelgan.runtime.mark import metadata
    from doppelgan.runtime.pictures import extended_xmp
    from PIL import Image as pillow

    files = []
    exif = pillow.Exif()
    exif[0x0112] = 6
    for name, options in (
        ("a.png", {"exif": exif}),
        ("a.jpg", {"exif": exif, "icc_profile": b"x" * 200}),
        ("b.jpg", {"progressive": True}),
        ("a.webp", {}),
        ("b.webp", {"lossless": True}),
        ("a.bmp", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("b.tif", {}),
        ("a.ppm", {}),
        ("a.gif", {}),
        ("a.jp2", {}),
    ):
        path = folder / name
        pillow.fromarray(_picture()).save(path, **options)
        if path.suffix in (".png", ".jpg", ".webp", ".tif"):
            metadata.write_source_type(path, "edited")
        files.append(path.read_bytes())
    packet, extensions = extended_xmp.split(LONG_XMP)
    segments = b"".join(b"\xff\xe1" + (2 + len(part)).to_bytes(2, "big") + part for part in extensions)
    pillow.fromarray(_picture()).save(folder / "long.jpg", xmp=packet, extra=segments)
    return [*files, (folder / "long.jpg").read_bytes()]


def _read_picture() -> Read:
    from doppelgan.runtime.pictures.files import read_image

    return read_image


def _videos(folder: Path) -> list[bytes]:
    from tests.runtime.clips import write_clip

    files = []
    for name, options in (
        ("a.mp4", {"audio": "aac", "title": "t"}),
        ("b.mp4", {"faststart": True, "rotation": 90}),
        ("a.mkv", {"audio": "flac"}),
        ("a.mov", {}),
        ("a.ts", {}),
        ("a.webm", {}),
    ):
        try:
            files.append(write_clip(folder / name, frames=5, **options).read_bytes())  # type: ignore[arg-type]
        except Exception:  # a container that does not take the clip's codec
            continue
    return files


def _read_video() -> Read:
    from doppelgan.runtime.source import open_source

    def read(path: Path) -> object:
        with open_source(str(path)) as source:
            return [frame.image.shape for frame in islice(source, 8)]

    return read


def _check() -> Read:
    from doppelgan.runtime.mark.c2pa import read_credentials
    from doppelgan.runtime.mark.metadata import read_source_type, write_source_type

    def read(path: Path) -> object:
        data = path.read_bytes()
        suffixes = {b"\x89P": ".png", b"\xff\xd8": ".jpg", b"RI": ".webp", b"II": ".tif", b"MM": ".tif"}
        suffix = suffixes.get(data[:2], path.suffix)
        named = path.with_name(f"named{suffix}")
        named.write_bytes(data)
        found = read_source_type(named), read_credentials(named)
        write_source_type(named, "edited")
        return found

    return read


def _signed(folder: Path) -> list[bytes]:
    from doppelgan.runtime.mark.c2pa import Signatory

    os.environ["DOPPELGAN_CONFIG"] = str(folder / "config")
    files = []
    for name, data in zip(("a.png", "a.jpg", "b.jpg", "a.webp"), _pictures(folder), strict=False):
        path = folder / name
        path.write_bytes(data)
        Signatory().sign(path, "edited")
        files.append(path.read_bytes())
    return files


def _movies(folder: Path) -> list[bytes]:
    from doppelgan.runtime.mark.metadata import write_source_type

    from tests.runtime.clips import write_clip

    path = write_clip(folder / "a.mp4", frames=3)
    write_source_type(path, "avatar")
    return [path.read_bytes()]


def _torch_zip(folder: Path) -> list[bytes]:
    import torch

    from tests.export import seeds

    files = []
    for content in ({"g_ema": seeds.rosinality()}, seeds.rosinality()):
        data = io.BytesIO()
        torch.save(content, data)
        files.append(data.getvalue())
    return files


def _torch_legacy(folder: Path) -> list[bytes]:
    import torch

    from tests.export import seeds

    data = io.BytesIO()
    torch.save({"g_ema": seeds.rosinality()}, data, _use_new_zipfile_serialization=False)
    return [data.getvalue()]


def _nvidia(folder: Path) -> list[bytes]:
    from tests.export import seeds

    return [seeds.nvidia_pickle(seeds.nvidia(), protocol=protocol) for protocol in (2, 4)]


def _read_checkpoint() -> Read:
    from doppelgan.export.checkpoints.checkpoint import read_checkpoint

    return read_checkpoint


def _safetensors(folder: Path) -> list[bytes]:
    from safetensors.torch import save

    from tests.export import seeds

    return [save({k: v.contiguous() for k, v in seeds.rosinality().items()})]


def _onnx(folder: Path) -> list[bytes]:
    from tests import tiny

    return [tiny.encoder(), tiny.synthesis(), tiny.residual_encoder(), tiny.mapping()]


def _read_onnx() -> Read:
    from doppelgan.runtime.backends.native.onnx_file import read_graph

    return read_graph


def _tflite(folder: Path) -> list[bytes]:
    from tests.export.tiny_tflite import TinyModel

    model = TinyModel()
    weight, bias = model.constant(np.ones((4, 3, 3, 3))), model.constant(np.zeros(4))
    options = {"padding": 0, "stride_w": 1, "stride_h": 1, "dilation_w": 1, "dilation_h": 1}
    convolved = model.op("CONV_2D", model.input(1, 8, 8, 3), weight, bias, shape=(1, 8, 8, 4), **options)
    model.op("RELU", convolved, shape=(1, 8, 8, 4), output=True)
    return [model.bytes()]


def _read_tflite() -> Read:
    from doppelgan.export.trackers.tflite_reader import read_model_file

    return read_model_file


def _bundle(folder: Path) -> list[bytes]:
    from tests.tiny import write_bundle

    path = folder / "seed"
    if not path.exists():
        write_bundle(path)
    return [next(path.glob("*.json")).read_bytes()]


def _read_bundle() -> Read:
    from doppelgan.runtime.bundle.reader import open_bundle

    from tests.tiny import write_bundle

    def read(path: Path) -> object:
        folder = path.with_name("bundle")
        if not folder.exists():
            write_bundle(folder)
        manifest = next(folder.glob("*.json"))
        shutil.copyfile(path, manifest)
        with open_bundle(folder) as bundle:
            return sorted(bundle.directions)

    return read


def _records(folder: Path) -> list[bytes]:
    from doppelgan.runtime.bundle import compiled
    from doppelgan.runtime.host.machine import this_machine

    record = compiled.Record(
        format=compiled.FORMAT,
        version=compiled.VERSION,
        machine=this_machine(),
        versions={"onnxruntime": "1.20"},
        created="2026-11-27",
        sources={"encoder": "0" * 64},
        choices={"encoder": compiled.Choice("native", "float32", 2)},
        measurements=(compiled.Measurement("encoder", "native", "float32", 2, 3.5),),
    )
    return [msgspec.json.encode(record)]


def _read_record() -> Read:
    from doppelgan.runtime.bundle.compiled import read_record

    return lambda path: read_record(path.read_bytes(), path.name)


def _engines(folder: Path) -> list[bytes]:
    from doppelgan.runtime.backends.tensorrt import engine_record

    engine = engine_record.Engine(
        network="synthesis",
        precision="float16",
        file="synthesis.engine",
        sha256="0" * 64,
        source_sha256="1" * 64,
        onnx_sha256="2" * 64,
        product="tensorrt",
        version="10.3.0",
        arch="sm87",
        platform="Linux aarch64",
        size=100,
        weights=50,
        activations=20,
        layers={"Convolution": 3},
    )
    record = engine_record.EngineRecord(engine_record.FORMAT, engine_record.VERSION, (engine,))
    return [msgspec.json.encode(record)]


def _read_engines() -> Read:
    from doppelgan.runtime.backends.tensorrt.engine_record import RECORD, read_engines

    def read(path: Path) -> object:
        shutil.copyfile(path, path.with_name(RECORD))
        return read_engines(path.parent)

    return read


def _presets(folder: Path) -> list[bytes]:
    from doppelgan.runtime.presets import Preset, Presets

    saved = Presets(folder / "presets")
    saved.write("a", Preset(edits={"age": 1.5}, style="photo"))
    return [next((folder / "presets").glob("*.json")).read_bytes()]


def _read_preset() -> Read:
    from doppelgan.runtime.presets import Presets

    return lambda path: Presets(path.parent).read(path.stem)


def _arrays(folder: Path) -> list[bytes]:
    files = []
    rng = np.random.default_rng(0)
    for arrays in (
        {"age": rng.normal(size=(18, 512)).astype(np.float32)},
        {"w": rng.normal(size=(4, 6)).astype(np.float32), "smile": np.ones((4, 6), np.float16)},
    ):
        data = io.BytesIO()
        np.savez(data, **arrays)  # type: ignore[arg-type]
        files.append(data.getvalue())
        data = io.BytesIO()
        np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
        files.append(data.getvalue())
    return files


def _array(folder: Path) -> list[bytes]:
    data = io.BytesIO()
    np.save(data, np.ones((4, 6), np.float32))
    return [data.getvalue()]


def _read_directions() -> Read:
    from doppelgan.runtime.edit.direction_files import load_codes, load_directions
    from doppelgan.runtime.errors import DoppelganError

    def read(path: Path) -> object:
        try:
            load_codes(path, 4, 6)
        except DoppelganError:
            return load_directions(path, 18, 512)
        return None

    return read


def _wire(folder: Path) -> list[bytes]:
    import struct

    from PIL import Image as pillow

    data = io.BytesIO()
    pillow.fromarray(_picture()).save(data, "JPEG")
    head = struct.Struct("<BBHIdHHHH")
    return [
        head.pack(1, 0, 0, 3, 12.5, 56, 40, 0, 0) + data.getvalue(),
        head.pack(1, 1, 2, 4, 13.5, 56, 40, 8, 0) + bytes(56 * 40 * 3 // 2),
    ]


def _read_wire() -> Read:
    from doppelgan.runtime.serve import wire
    from doppelgan.runtime.serve.frames import H264Reader, YuvReader, decode_jpeg

    def read(path: Path) -> object:
        message = wire.unpack(path.read_bytes())
        if message.codec == wire.JPEG:
            return decode_jpeg(message.payload)
        if message.codec == wire.H264:
            return H264Reader()(message.payload)
        return YuvReader()(message.payload, message.width, message.height, nv12=message.codec == wire.NV12)

    return read


READERS: dict[str, Reader] = {
    "pictures": Reader(_pictures, _read_picture, ".png"),
    "video": Reader(_videos, _read_video, ".mp4"),
    "marks of pictures": Reader(_signed, _check, ".png"),
    "marks of movies": Reader(_movies, _check, ".mp4"),
    "torch zip": Reader(_torch_zip, _read_checkpoint, ".pt"),
    "torch legacy": Reader(_torch_legacy, _read_checkpoint, ".pt"),
    "nvidia pickle": Reader(_nvidia, _read_checkpoint, ".pkl"),
    "safetensors": Reader(_safetensors, _read_checkpoint, ".safetensors"),
    "onnx": Reader(_onnx, _read_onnx, ".onnx"),
    "tflite": Reader(_tflite, _read_tflite, ".tflite"),
    "bundle": Reader(_bundle, _read_bundle, ".json"),
    "record": Reader(_records, _read_record, ".json"),
    "engines": Reader(_engines, _read_engines, ".json"),
    "preset": Reader(_presets, _read_preset, ".json"),
    "npz": Reader(_arrays, _read_directions, ".npz"),
    "npy": Reader(_array, _read_directions, ".npy"),
    "websocket": Reader(_wire, _read_wire, ".bin"),
}


def _bad(answer: Callable[[], object]) -> Reader:
    def read(path: Path) -> object:
        return None if path.read_bytes() == b"good" else answer()

    return Reader(lambda folder: [b"good"], lambda: read, ".bin")


def _hang() -> None:
    while True:
        time.sleep(0.01)


# What the harness must notice; not among the readers that are attacked.
SELF_TESTS: dict[str, Reader] = {
    "self-test: raises": _bad(lambda: {}["absent"]),
    "self-test: hangs": _bad(_hang),
    "self-test: grows": _bad(lambda: bytearray(2 << 30)),
    "self-test: crashes": _bad(lambda: os.kill(os.getpid(), signal.SIGSEGV)),
}


def silence() -> None:
    """Warnings and FFmpeg's remarks about thousands of damaged files help nobody."""
    warnings.simplefilter("ignore")
    import av.logging

    av.logging.set_level(av.logging.PANIC)
