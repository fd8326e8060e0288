"""The networks that are measured: the demo's, and full-size ones with weights drawn by name.

Speed does not depend on what the weights are; correctness is checked on the same fill. ``--rehearse`` takes
the same graphs with a few channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.encoders import CROP_SIZE, Encoder
from doppelgan.export.networks.stylegan2 import GeneratorWeights, Mapping, Synthesis, from_rosinality
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants.fp16 import to_float16
from doppelgan.export.variants.upsampling import by_phases

from tests.export import reference_encoders, seeds

from ..counting import Count, count
from ..reshaped import batched
from ..stylegan2_1024 import RGB_SCALE

SAMPLES = 64
ENCODERS = {
    "e4e": ("Encoder4Editing", 3),
    "psp": ("GradualStyleEncoder", 3),
    "restyle": ("ProgressiveBackboneEncoder", 6),
}
STYLES = 18


@dataclass
class Network:
    """A float32 network for one sample, and inputs as they occur."""

    name: str
    data: bytes
    input: str
    output: str
    samples: np.ndarray  # [SAMPLES, ...]
    wild: np.ndarray = field(default_factory=lambda: np.empty(0))  # codes far outside of the usual spread

    @property
    def image(self) -> bool:
        return self.output == "image"

    @cached_property
    def counted(self) -> Count:
        return count(GraphEditor(self.data))

    def variants(self, n: int) -> Iterator[tuple[str, bytes]]:
        """Name of the file -> ONNX for ``n`` samples at once."""
        data = self.data if n == 1 else batched(self.data, n)
        half = to_float16(data)
        yield "float32", data
        yield "float16", half
        if self.image:
            yield "float32 by phases", by_phases(data)
            yield "float16 by phases", by_phases(half)


def channels(size: int, rehearse: bool) -> dict[int, int]:
    if rehearse:
        return {side: 4 for side in seeds.CONFIG_F if side <= min(size, 32)}
    return {side: width for side, width in seeds.CONFIG_F.items() if side <= size}


def generator_state(size: int, rehearse: bool) -> dict[str, torch.Tensor]:
    """config-f, scaled so that pictures stay about -1..1."""
    state = seeds.rosinality(channels(size, rehearse), 16 if rehearse else 512, 8)
    for key in state:
        if "to_rgb" in key and key.endswith("conv.weight"):
            state[key] = state[key] * RGB_SCALE
    return state


def generator_weights(state: dict[str, torch.Tensor]) -> GeneratorWeights:
    return from_rosinality(TensorTable(state, "generator", "seeded fill"))


def codes_of(weights: GeneratorWeights, n: int = SAMPLES) -> torch.Tensor:
    """Codes of invented people, float32 [n, n_styles, w_dim]."""
    z = torch.randn(n, weights.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return Mapping(weights)(z)[:, None].repeat(1, weights.n_styles, 1)


def generator(size: int, rehearse: bool) -> Network:
    weights = generator_weights(generator_state(size, rehearse))
    codes = codes_of(weights)
    data = to_onnx(Synthesis(weights).eval(), {"codes": codes[:1]}, ["image"])
    samples = codes.numpy()
    wild = np.concatenate([3 * samples[:4], 1000 * samples[:4]])
    return Network(f"StyleGAN2 {size}", data, "codes", "image", samples, wild)


def _encoder_state(name: str, rehearse: bool) -> tuple[str, dict[str, torch.Tensor], torch.Tensor]:
    """Kind, tensors, average code [styles, w_dim]."""
    kind, planes = ENCODERS[name]
    styles, w_dim = (8, 16) if rehearse else (STYLES, 512)
    widths = seeds.TINY_WIDTHS if rehearse else seeds.FULL_WIDTHS
    state = seeds.encoder(kind, styles, w_dim, widths, in_channels=planes)
    return kind, state, seeds.fill("latent_avg", (styles, w_dim), 0.3)


def encoder_module(name: str, rehearse: bool) -> torch.nn.Module:
    kind, state, average = _encoder_state(name, rehearse)
    table = TensorTable(state, "encoder", "seeded fill")
    styles, w_dim = average.shape
    return Encoder(table, kind, styles, w_dim, average if ENCODERS[name][1] == 3 else None).eval()


class OriginalEncoder(torch.nn.Module):
    """The encoder as its own program computes it, layer by layer."""

    def __init__(self, name: str, rehearse: bool) -> None:
        super().__init__()
        self.kind, state, average = _encoder_state(name, rehearse)
        self.styles = len(average)
        self.names = {key: key.replace(".", "_") for key in state}
        for key, plain in self.names.items():
            self.register_buffer(plain, state[key])
        self.register_buffer("average", average)

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        state = {key: getattr(self, plain) for key, plain in self.names.items()}
        return reference_encoders.encode(state, self.kind, self.styles, crop) + self.get_buffer("average")


def crops(n: int, planes: int) -> np.ndarray:
    """Smooth noise in -1..1 with some detail, float32 [n, planes, 256, 256]."""
    seed = torch.Generator().manual_seed(3)
    coarse = torch.nn.functional.interpolate(
        torch.rand(n, planes, 8, 8, generator=seed), CROP_SIZE, mode="bicubic"
    )
    return (1.6 * coarse - 0.8 + 0.1 * torch.randn(coarse.shape, generator=seed)).clamp(-1, 1).numpy()


def encoder(name: str, rehearse: bool) -> Network:
    samples = crops(SAMPLES, ENCODERS[name][1])
    module = encoder_module(name, rehearse)
    data = to_onnx(module, {"crop": torch.from_numpy(samples[:1])}, ["codes"])
    return Network(f"{name} encoder", data, "crop", "codes", samples)


def demo_generator() -> Network:
    """The embedded bundle's photo generator."""
    from doppelgan.runtime import open_bundle

    with open_bundle("demo", compiled=False) as bundle:
        path: Path = bundle.path / bundle.manifest.networks["synthesis"].file
        codes = _demo_codes(bundle)
    wild = np.concatenate([3 * codes[:4], 1000 * codes[:4]])
    return Network("demo generator", path.read_bytes(), "codes", "image", codes, wild)


def _demo_codes(bundle: Any) -> np.ndarray:
    from doppelgan.runtime.measure.network_inputs import sample_codes

    return np.ascontiguousarray(sample_codes(bundle, SAMPLES, seed=3))
