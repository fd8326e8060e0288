"""Checkpoints of any size in every layout, with weights drawn by name: the same everywhere, no download.

Entry k of shape s is ``offset + scale * u``, u uniform with unit variance from PCG64(crc32(k) ^ seed).
"""

from __future__ import annotations

import io
import math
import pickle
import re
import sys
import types
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

State = dict[str, torch.Tensor]

TINY = {4: 8, 8: 8, 16: 4}  # side -> channels; sizes differ so that a transposed shape shows
CONFIG_F = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
FULL_WIDTHS = (64, 64, 128, 256, 512)  # stem and four stages of IR-SE-50 and ResNet-34
TINY_WIDTHS = (4, 4, 6, 8, 10)
TINY_W_DIM = 16


def fill(
    key: str, shape: tuple[int, ...], scale: float = 1.0, offset: float = 0.0, seed: int = 0
) -> torch.Tensor:
    raw = np.random.PCG64(zlib.crc32(key.encode()) ^ seed).random_raw(max(1, math.prod(shape)))
    u = (raw >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
    value = np.float32(offset) + np.float32(scale * 3**0.5) * (2 * u - 1)
    return torch.from_numpy(value.astype(np.float32).reshape(shape))


def fir(gain: float = 1.0) -> torch.Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64)


def rosinality(
    channels: Mapping[int, int] = TINY,
    w_dim: int = TINY_W_DIM,
    n_mlp: int = 2,
    seed: int = 0,
    image_channels: int = 3,
) -> State:
    """``g_ema`` of a generator whose side is the largest key of ``channels``."""
    s: State = {}

    def add(key: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> None:
        s[key] = fill(key, shape, scale, offset, seed)

    def conv(prefix: str, n_in: int, n_out: int, side: int) -> None:
        add(f"{prefix}.conv.weight", 1, n_out, n_in, side, side)
        add(f"{prefix}.conv.modulation.weight", n_in, w_dim)
        add(f"{prefix}.conv.modulation.bias", n_in, scale=0.1, offset=1)

    def styled(prefix: str, n_in: int, n_out: int, up: bool) -> None:
        conv(prefix, n_in, n_out, 3)
        if up:
            s[f"{prefix}.conv.blur.kernel"] = fir(4)
        add(f"{prefix}.noise.weight", 1, scale=0.2, offset=0.1)
        add(f"{prefix}.activate.bias", n_out, scale=0.1)

    def rgb(prefix: str, n_in: int, up: bool) -> None:
        conv(prefix, n_in, image_channels, 1)
        add(f"{prefix}.bias", 1, image_channels, 1, 1, scale=0.1)
        if up:
            s[f"{prefix}.upsample.kernel"] = fir(4)

    for i in range(1, n_mlp + 1):
        add(f"style.{i}.weight", w_dim, w_dim, scale=100)
        add(f"style.{i}.bias", w_dim, scale=10)
    add("input.input", 1, channels[4], 4, 4)
    styled("conv1", channels[4], channels[4], up=False)
    rgb("to_rgb1", channels[4], up=False)
    for k, side in enumerate(sorted(channels)[1:]):
        styled(f"convs.{2 * k}", channels[side // 2], channels[side], up=True)
        styled(f"convs.{2 * k + 1}", channels[side], channels[side], up=False)
        rgb(f"to_rgbs.{k}", channels[side], up=True)
    for i in range(2 * len(channels) - 1):
        side = 4 * 2 ** ((i + 1) // 2)
        add(f"noises.noise_{i}", 1, 1, side, side)
    return s


def nvidia(
    channels: Mapping[int, int] = TINY,
    w_dim: int = TINY_W_DIM,
    n_mlp: int = 2,
    seed: int = 0,
    image_channels: int = 3,
) -> State:
    """``G_ema.state_dict()`` of a generator whose side is the largest key of ``channels``."""
    s: State = {}

    def add(key: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> None:
        s[key] = fill(key, shape, scale, offset, seed)

    def layer(prefix: str, n_in: int, n_out: int, kernel: int) -> None:
        add(f"{prefix}.weight", n_out, n_in, kernel, kernel)
        add(f"{prefix}.bias", n_out, scale=0.1)
        add(f"{prefix}.affine.weight", n_in, w_dim)
        add(f"{prefix}.affine.bias", n_in, scale=0.1, offset=1)

    width = channels[4]
    for side in sorted(channels):
        block = f"synthesis.b{side}"
        s[f"{block}.resample_filter"] = fir()
        if side == 4:
            add(f"{block}.const", width, 4, 4)
        for name in ("conv1",) if side == 4 else ("conv0", "conv1"):
            layer(f"{block}.{name}", width, channels[side], 3)
            width = channels[side]
            add(f"{block}.{name}.noise_strength", scale=0.2, offset=0.1)
            add(f"{block}.{name}.noise_const", side, side)
            s[f"{block}.{name}.resample_filter"] = fir()
        layer(f"{block}.torgb", width, image_channels, 1)
    add("mapping.w_avg", w_dim, scale=0.3)
    for i in range(n_mlp):
        add(f"mapping.fc{i}.weight", w_dim, w_dim, scale=100)
        add(f"mapping.fc{i}.bias", w_dim, scale=10)
    return s


def encoder(
    kind: str,
    n_styles: int,
    w_dim: int = TINY_W_DIM,
    widths: tuple[int, ...] = TINY_WIDTHS,
    in_channels: int = 3,
    seed: int = 0,
) -> State:
    """Encoder tensors as the original classes name them, without the ``encoder.`` prefix."""
    s: State = {}

    def add(key: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> None:
        s[key] = fill(key, shape, scale, offset, seed)

    def conv(name: str, n_out: int, n_in: int, side: int, gain: float = 1.0) -> None:
        add(f"{name}.weight", n_out, n_in, side, side, scale=gain / math.sqrt(n_in * side * side))

    def bn(name: str, n: int) -> None:
        add(f"{name}.weight", n, scale=0.1, offset=0.7)
        add(f"{name}.bias", n, scale=0.05)
        add(f"{name}.running_mean", n, scale=0.1)
        add(f"{name}.running_var", n, scale=0.15, offset=1.0)
        s[f"{name}.num_batches_tracked"] = torch.tensor(0)

    def bias(name: str, n: int) -> None:
        add(f"{name}.bias", n, scale=0.05)

    stem, *stages = widths
    resnet = kind.startswith("ResNet")
    unit, width = 0, stem
    if resnet:
        conv("conv1", stem, in_channels, 7)
        bn("bn1", stem)
        add("relu.weight", stem, scale=0.05, offset=0.25)
    else:
        conv("input_layer.0", stem, in_channels, 3)
        bn("input_layer.1", stem)
        add("input_layer.2.weight", stem, scale=0.05, offset=0.25)
    for k, (out, count) in enumerate(zip(stages, (3, 4, 6 if resnet else 14, 3), strict=True)):
        for j in range(count):
            name = f"body.{unit}"
            if resnet:
                conv(f"{name}.conv1", out, width, 3)
                bn(f"{name}.bn1", out)
                conv(f"{name}.conv2", out, out, 3)
                bn(f"{name}.bn2", out)
                if width != out or (j == 0 and k > 0):
                    conv(f"{name}.downsample.0", out, width, 1)
                    bn(f"{name}.downsample.1", out)
            else:
                bn(f"{name}.res_layer.0", width)
                conv(f"{name}.res_layer.1", out, width, 3)
                add(f"{name}.res_layer.2.weight", out, scale=0.05, offset=0.25)
                conv(f"{name}.res_layer.3", out, out, 3)
                bn(f"{name}.res_layer.4", out)
                squeezed = max(1, out // 16)
                conv(f"{name}.res_layer.5.fc1", squeezed, out, 1)
                conv(f"{name}.res_layer.5.fc2", out, squeezed, 1)
                if width != out:
                    conv(f"{name}.shortcut_layer.0", out, width, 1)
                    bn(f"{name}.shortcut_layer.1", out)
            unit, width = unit + 1, out
    if kind in ("BackboneEncoderUsingLastLayerIntoW", "SingleStyleCodeEncoder"):
        add("linear.weight", w_dim, width, scale=0.6)
        bias("linear", w_dim)
    elif kind == "BackboneEncoderUsingLastLayerIntoWPlus":
        bn("output_layer_2.0", width)
        add("output_layer_2.3.weight", w_dim, width * 49, scale=1 / math.sqrt(width * 49))
        bias("output_layer_2.3", w_dim)
        add("linear.weight", n_styles * w_dim, w_dim, scale=0.6)
        bias("linear", n_styles * w_dim)
    else:
        pyramid = "GradualStyle" in kind or kind == "Encoder4Editing"
        for j in range(n_styles):
            for i in range(4 if not pyramid or j < 3 else 5 if j < 7 else 6):
                conv(f"styles.{j}.convs.{2 * i}", width, width, 3, gain=1.4)
                bias(f"styles.{j}.convs.{2 * i}", width)
            add(f"styles.{j}.linear.weight", w_dim, width, scale=0.6)
            bias(f"styles.{j}.linear", w_dim)
        if pyramid:
            conv("latlayer1", width, stages[2], 1)
            bias("latlayer1", width)
            conv("latlayer2", width, stages[1], 1)
            bias("latlayer2", width)
    return s


def psp_checkpoint(
    kind: str,
    channels: Mapping[int, int] = TINY,
    w_dim: int = TINY_W_DIM,
    n_mlp: int = 2,
    widths: tuple[int, ...] = TINY_WIDTHS,
    in_channels: int = 3,
) -> dict[str, Any]:
    """``{state_dict, latent_avg, opts}`` as pSp, e4e and ReStyle save it."""
    n_styles = 2 * len(channels)
    state = {f"encoder.{k}": v for k, v in encoder(kind, n_styles, w_dim, widths, in_channels).items()}
    state.update({f"decoder.{k}": v for k, v in rosinality(channels, w_dim, n_mlp).items()})
    options = {"encoder_type": kind, "start_from_latent_avg": True, "input_nc": in_channels}
    return {"state_dict": state, "latent_avg": fill("latent_avg", (n_styles, w_dim), 0.3), "opts": options}


class _Pickled:
    """An object that reduces as NVIDIA's persistent classes do: source code and a state."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str) -> None:
        self.class_name, self.state, self.source = class_name, state, source

    def __reduce__(self) -> tuple[Any, ...]:
        persistence = sys.modules["torch_utils.persistence"]
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name,
            "state": self.state,
        }
        return persistence._reconstruct_persistent_obj, (meta,), None


@contextmanager
def stand_in_modules(**classes: Any) -> Iterator[None]:
    """Let pickles name modules that are not installed: ``dotted__name=callable`` as "dotted.name"."""
    added: list[str] = []
    for full, value in classes.items():
        module_name, _, name = full.replace("__", ".").rpartition(".")
        parts = module_name.split(".")
        for i in range(1, len(parts) + 1):
            path = ".".join(parts[:i])
            if path not in sys.modules:
                sys.modules[path] = types.ModuleType(path)
                added.append(path)
        value.__module__, value.__qualname__, value.__name__ = module_name, name, name
        setattr(sys.modules[module_name], name, value)
    try:
        yield
    finally:
        for path in added:
            del sys.modules[path]


def nvidia_attributes(name: str, children: Mapping[str, State]) -> tuple[str, dict[str, Any]]:
    """Class and plain attributes of the module ``name`` as stylegan2-ada-pytorch sets them."""
    last = name.rpartition(".")[2]
    if name == "":
        return "Generator", {"c_dim": 0, "img_channels": 3}
    if name == "mapping":
        layers = [key for key in children if key.startswith("fc")]
        return "MappingNetwork", {"c_dim": 0, "num_layers": len(layers), "w_avg_beta": 0.995}
    if name == "synthesis":
        return "SynthesisNetwork", {
            "block_resolutions": sorted(int(key[1:]) for key in children),
            "img_channels": 3,
        }
    resolution = int(name.split(".")[1][1:]) if name.startswith("synthesis") else 0
    if last in ("conv0", "conv1"):
        return "SynthesisLayer", {
            "resolution": resolution, "up": 2 if last == "conv0" else 1, "use_noise": True,
            "activation": "lrelu", "conv_clamp": None, "padding": 1, "act_gain": np.sqrt(2),
        }  # fmt: skip
    if last == "torgb":
        return "ToRGBLayer", {"conv_clamp": None}
    if last == "skip":
        return "Conv2dLayer", {}
    if last[1:].isdigit():
        first = resolution == 4
        return "SynthesisBlock", {
            "in_channels": 0 if first else 1, "resolution": resolution, "architecture": "skip",
            "is_last": False, "use_fp16": False, "channels_last": False, "num_conv": 1 if first else 2,
            "num_torgb": 1,
        }  # fmt: skip
    return "FullyConnectedLayer", {"activation": "lrelu" if last.startswith("fc") else "linear"}


def nvidia_pickle(
    state: State,
    source: str = "raise RuntimeError('ran')",
    changes: Mapping[str, Mapping[str, Any]] | None = None,  # by dotted name, a regular expression
    protocol: int | None = None,
    **attributes: Any,  # of the layers that have them, or of the generator
) -> bytes:
    """A pickle as stylegan2-ada-pytorch writes it: tensors and the attributes of each module."""

    def module(part: State, name: str = "") -> _Pickled:
        own = {k: v for k, v in part.items() if "." not in k}
        children: dict[str, State] = {}
        for key, value in part.items():
            head, _, rest = key.partition(".")
            if rest:
                children.setdefault(head, {})[rest] = value
        parameters = {k: torch.nn.Parameter(v) for k, v in own.items() if k in ("weight", "bias", "const")}
        class_name, plain = nvidia_attributes(name, children)
        if class_name == "FullyConnectedLayer":  # as numbers of NumPy, as np.sqrt makes them
            rate = 0.01 if name.startswith("mapping.fc") else 1
            plain |= {"weight_gain": rate / np.sqrt(own["weight"].shape[1]), "bias_gain": rate}
        if class_name == "ToRGBLayer":
            plain["weight_gain"] = 1 / np.sqrt(own["weight"].shape[1])
        plain |= {k: v for k, v in attributes.items() if k in plain or (name == "" and k == "extra")}
        for pattern, change in (changes or {}).items():
            if re.fullmatch(pattern, name):
                plain |= change
        return _Pickled(
            plain.pop("class_name", class_name),
            {
                "training": False,
                "_parameters": parameters,
                "_buffers": {k: v for k, v in own.items() if k not in parameters},
                "_forward_hooks": OrderedDict(),
                "_modules": {k: module(v, f"{name}.{k}" if name else k) for k, v in children.items()},
                **plain,
            },
            source,
        )

    def reconstruct(_meta: Any) -> None:
        raise AssertionError("the reader called NVIDIA's function")

    class EasyDict(dict):  # type: ignore[type-arg]
        pass

    with stand_in_modules(
        torch_utils__persistence___reconstruct_persistent_obj=reconstruct, dnnlib__util__EasyDict=EasyDict
    ):
        data = {"G": None, "D": None, "G_ema": module(state), "training_set_kwargs": EasyDict(resolution=16)}
        stream = io.BytesIO()
        pickle.dump(data, stream, protocol)
    return stream.getvalue()
