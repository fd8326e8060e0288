"""A full-size bundle on the GPU, in float16: e4e or ReStyle with a 1024 px generator; frames and the loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime import Pipeline, open_bundle
from doppelgan.runtime.bundle import BundleWriter
from doppelgan.runtime.manifest import EncoderInfo, Tensor, read_manifest
from doppelgan.runtime.places import find_bundle

from . import networks
from .card import Card
from .frames import SIZES, demo_frames
from .measuring import timed
from .turns import READY, Notes

STEPS = 5  # of ReStyle


def run(notes: Notes, rehearse: bool) -> None:
    card = Card()
    size = 256 if rehearse else 1024
    frames = {shape: demo_frames(shape) for shape in (SIZES[:1] if rehearse else SIZES)}
    for part in ("onnx-e4e", "onnx-restyle", f"onnx-{size}"):
        while not (notes.folder / f"{part}.{READY}").exists():
            time.sleep(0.2)
    opened = {}
    for encoder in ("e4e", "restyle"):
        bundle = notes.attempt(f"bundle of {encoder}", _bundle(notes.folder, encoder, size, rehearse))
        if bundle is not None:
            opened[encoder] = bundle
    notes.wait_for_turn()
    brief = {"seconds": 0.2, "least": 2} if rehearse else {"seconds": 2.0, "least": 60}
    for encoder, bundle in opened.items():
        crops = networks.crops(1, 3)
        notes.attempt(f"inversion {encoder}", _inversion(notes, encoder, bundle, crops, card, brief))
        for shape, pictures in frames.items():
            if encoder == "e4e":
                notes.attempt(
                    f"frames {encoder}", _frames(notes, encoder, bundle, shape, pictures, card, brief)
                )


def _bundle(folder: Path, encoder: str, size: int, rehearse: bool) -> Callable[[], Any]:
    def work() -> Any:
        restyle = encoder == "restyle"
        planes = networks.ENCODERS[encoder][1]
        generator_file, encoder_file = (
            folder / "onnx" / name / "float16-1.onnx" for name in (str(size), encoder)
        )
        w_dim = 16 if rehearse else 512
        side = max(networks.channels(size, rehearse))
        styles = 8 if rehearse else networks.STYLES
        shape = {"n_styles": styles, "w_dim": w_dim, "image_size": side, "z_dim": w_dim}
        target = folder / f"bundle-{encoder}"
        demo = find_bundle("demo")
        manifest = read_manifest((demo / "manifest.json").read_bytes(), "demo")
        with BundleWriter(
            target, overwrite=True, name=encoder, description="", license="", **shape
        ) as bundle:
            crop = Tensor("crop", "float32", (1, planes, 256, 256))
            codes = Tensor("codes", "float32", (1, styles, w_dim))
            image = Tensor("image", "float32", (1, 3, side, side))
            bundle.add_network("encoder", encoder_file, (crop,), (codes,), precision="float16")
            bundle.add_network("synthesis", generator_file, (codes,), (image,), precision="float16")
            bundle.add_generator("photo", "synthesis")
            bundle.add_encoder(
                EncoderInfo(encoder, "restyle", STEPS) if restyle else EncoderInfo(encoder), 256
            )
            bundle.add_latent(latent_avg=np.zeros((styles, w_dim), np.float32))
            for name in ("detector", "landmarks"):
                n = manifest.networks[name]
                bundle.add_network(name, demo / n.file, n.inputs, n.outputs, parity=n.parity)
        opened = open_bundle(target, backend="onnxruntime" if rehearse else "cuda", verify=False)
        for name in opened.manifest.networks:
            opened.session(name)
        return opened

    return work


def _inversion(
    notes: Notes, encoder: str, bundle: Any, crops: np.ndarray, card: Card, brief: dict[str, Any]
) -> Callable[[], None]:
    def work() -> None:
        row = timed(lambda: bundle.encode(crops), card, **brief)
        steps = STEPS if encoder == "restyle" else 1
        notes.add(
            "inversion", encoder=encoder, steps=steps, computes=bundle.session("encoder").backend, **row
        )

    return work


def _frames(
    notes: Notes,
    encoder: str,
    bundle: Any,
    shape: tuple[int, int],
    pictures: list[np.ndarray],
    card: Card,
    brief: dict[str, Any],
) -> Callable[[], None]:
    def work() -> None:
        pipeline = Pipeline(bundle, composite="face")
        turn = 0

        def frame() -> None:
            nonlocal turn
            pipeline.process(pictures[turn % len(pictures)], turn / 30)
            turn += 1

        row = timed(frame, card, **brief)
        stages = {report.name: round(report.median_ms, 3) for report in pipeline.clock.report().stages}
        notes.add(
            "frame", backend="cuda", composite="face", bundle=f"{encoder} + StyleGAN2 {bundle.image_size}",
            width=shape[0], height=shape[1], faces=len(pipeline.people), stages=stages, **row,
        )  # fmt: skip

    return work
