"""Every attribute of NVIDIA's pickled modules, and what the exporter does about it: one table.

A pickled module carries plain attributes beside its tensors. Some of them change what it computes: an
activation, a gain, a clamp. Each is **read** (it enters the arithmetic of ``from_nvidia``), **checked** (only
the values with which the exported arithmetic is the original's are accepted), or **without effect** on a
picture in evaluation. What the table does not know is refused: it may mean anything.

Classes and attributes are those of stylegan2-ada-pytorch (``training/networks.py``) and of stylegan3
(``training/networks_stylegan2.py``), which names a few more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from doppelgan.runtime.errors import CheckpointError

from .nvidia_pickle import ModuleRecord

# Slope of an activation below zero, of those that are linear on both sides of it.
SLOPES = {"linear": 1.0, "relu": 0.0, "lrelu": 0.2}
DEFAULT_GAINS = {"linear": 1.0, "relu": math.sqrt(2), "lrelu": math.sqrt(2)}  # where no attribute says it

Modules = Mapping[str, Mapping[str, Any]]  # dotted name within the generator -> attributes that are read


@dataclass(frozen=True)
class Place:
    """A module within its generator."""

    name: str  # dotted: "synthesis.b8.conv0"
    record: ModuleRecord

    @property
    def resolution(self) -> int:
        """Of the block that the module is or belongs to; 0 outside of blocks."""
        block = re.search(r"(?:^|\.)b(\d+)(?:\.|$)", self.name)
        return int(block[1]) if block else 0

    def children(self, pattern: str) -> list[str]:
        """Names of direct children that match."""
        return [name for name in self.record.children() if re.fullmatch(pattern, name)]


@dataclass(frozen=True)
class Rule:
    """What is done about one attribute of one class."""

    expected: str  # which values are followed, for people; "" if any
    accepts: Callable[[Any, Place], bool]
    enters: bool = False  # handed on to the arithmetic


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read(expected: str, accepts: Callable[[Any], bool]) -> Rule:
    return Rule(expected, lambda value, _: accepts(value), enters=True)


def _checked(expected: str, accepts: Callable[[Any, Place], bool]) -> Rule:
    return Rule(expected, accepts)


def _only(*values: Any) -> Rule:
    return Rule(
        " or ".join(map(repr, values)),
        lambda value, _: any(value == v and type(value) is type(v) for v in values),
    )


NO_EFFECT = Rule("", lambda _value, _place: True)  # on a picture, in evaluation and in float32
SHAPE = NO_EFFECT  # repeats the shape of a tensor, which is checked where the tensor is taken
_ACTIVATION = Rule(
    f"one of {', '.join(SLOPES)} (linear in an affine layer)",
    lambda value, place: value in SLOPES and (value == "linear" or not place.name.endswith("affine")),
    enters=True,
)
_GAIN = _read("a positive number", lambda value: _number(value) and value > 0)
_CLAMP = _read("None or a positive number", lambda value: value is None or (_number(value) and value > 0))

ATTRIBUTES: dict[str, dict[str, Rule]] = {
    "Generator": {
        "z_dim": SHAPE,
        "c_dim": _only(0),  # labels
        "w_dim": SHAPE,
        "img_resolution": SHAPE,
        "img_channels": SHAPE,
        "num_ws": SHAPE,
    },
    "MappingNetwork": {
        "z_dim": SHAPE,
        "c_dim": _only(0),
        "w_dim": SHAPE,
        "num_ws": NO_EFFECT,  # copies of w
        "num_layers": _checked(
            "the number of its layers fc0, fc1 ...", lambda v, place: v == len(place.children(r"fc\d+"))
        ),
        "w_avg_beta": NO_EFFECT,  # how the average is tracked in training
        "trainable_layers": NO_EFFECT,
    },
    "FullyConnectedLayer": {
        "in_features": SHAPE,
        "out_features": SHAPE,
        "activation": _ACTIVATION,
        "weight_gain": _GAIN,  # holds lr_multiplier
        "bias_gain": _GAIN,  # is lr_multiplier
    },
    "SynthesisNetwork": {
        "w_dim": SHAPE,
        "img_resolution": SHAPE,
        "img_resolution_log2": SHAPE,
        "img_channels": SHAPE,
        "block_resolutions": _checked(
            "all its blocks, from 4 up",
            lambda v, place: list(v) == [4 << k for k in range(len(place.children(r"b\d+")))],
        ),
        "num_ws": SHAPE,
        "num_fp16_res": NO_EFFECT,  # precision of execution
    },
    "SynthesisBlock": {
        "in_channels": _checked(
            "0 in the first block only", lambda v, place: (v == 0) == (place.resolution == 4)
        ),
        "w_dim": SHAPE,
        "resolution": _checked("that of its name", lambda v, place: v == place.resolution),
        "img_channels": SHAPE,
        "is_last": NO_EFFECT,  # where every block has a to-RGB layer
        "architecture": _only("skip"),
        "use_fp16": NO_EFFECT,
        "channels_last": NO_EFFECT,  # memory layout
        "fused_modconv_default": NO_EFFECT,  # order of execution
        "num_conv": _checked("1 at 4x4, else 2", lambda v, place: v == (1 if place.resolution == 4 else 2)),
        "num_torgb": _only(1),
    },
    "SynthesisLayer": {
        "in_channels": SHAPE,
        "out_channels": SHAPE,
        "w_dim": SHAPE,
        "resolution": _checked("that of its block", lambda v, place: v == place.resolution),
        "up": _checked(
            "2 of conv0, 1 of conv1", lambda v, place: v == (2 if place.name.endswith("conv0") else 1)
        ),
        "use_noise": _read("True or False", lambda value: isinstance(value, bool)),
        "activation": _ACTIVATION,
        "conv_clamp": _CLAMP,
        "padding": _only(1),
        "act_gain": _GAIN,
    },
    "ToRGBLayer": {
        "in_channels": SHAPE,
        "out_channels": SHAPE,
        "w_dim": SHAPE,
        "conv_clamp": _CLAMP,
        "weight_gain": _GAIN,
    },
}  # fmt: skip

# What every torch module carries (also those of older and newer versions than the one installed), and what
# NVIDIA's persistence adds. Hooks that run in a forward pass must be empty.
_OF_EVERY_MODULE = set(torch.nn.Module().__dict__) | {
    "_backend", "_backward_hooks", "_backward_pre_hooks", "_buffers", "_forward_hooks",
    "_forward_hooks_always_called", "_forward_hooks_with_kwargs", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_init_args", "_init_kwargs", "_is_full_backward_hook",
    "_load_state_dict_post_hooks", "_load_state_dict_pre_hooks", "_modules", "_non_persistent_buffers_set",
    "_parameters", "_state_dict_hooks", "_state_dict_pre_hooks", "training",
}  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def read_attributes(
    generator: ModuleRecord,
    source: str,  # name of the file, for messages
) -> dict[str, dict[str, Any]]:
    """Attributes that enter the arithmetic, by dotted module name. Raises CheckpointError for one that the
    exporter does not follow."""
    entering: dict[str, dict[str, Any]] = {}
    for name, record in generator.walk():
        place = Place(name, record)
        where = f"{source}: module {name or record.class_name!r}"
        rules = ATTRIBUTES.get(record.class_name)
        if rules is None:
            raise CheckpointError(
                f"{where}: expected one of StyleGAN2's classes ({', '.join(ATTRIBUTES)}), "
                f"got {record.class_name!r}, whose arithmetic is not known; {_REMEDY}"
            )
        entering[name] = {}
        for attribute, value in record.state.items():
            if attribute in _OF_EVERY_MODULE:
                if attribute in _HOOKS and value:
                    raise CheckpointError(
                        f"{where}: expected no hooks, got {attribute}, which change its output; {_REMEDY}"
                    )
                continue
            rule = rules.get(attribute)
            if rule is None:
                raise CheckpointError(
                    f"{where}: expected the attributes of StyleGAN2's {record.class_name}, "
                    f"got {attribute} = {_shown(value)}, whose effect is not known; {_REMEDY}"
                )
            if not _accepted(rule, value, place):
                raise CheckpointError(
                    f"{where}: expected {attribute} {rule.expected}, got {_shown(value)}; "
                    f"{_remedy(attribute)}"
                )
            if rule.enters:
                entering[name][attribute] = value
    return entering


_REMEDY = (
    "if you know that it changes nothing, save the tensors alone, "
    "torch.save({'G_ema': G_ema.state_dict()}, FILE), and export those"
)


def _remedy(attribute: str) -> str:
    if attribute == "c_dim":
        return "train or take a generator without labels"
    return "the export cannot follow that: take a generator of the published architecture"


def _accepted(rule: Rule, value: Any, place: Place) -> bool:
    try:
        return bool(rule.accepts(value, place))
    except (TypeError, ValueError, RuntimeError):  # a value of another kind: a tensor, an object
        return False


def _shown(value: Any) -> str:
    text = (
        repr(value)
        if isinstance(value, (bool, int, float, str, list, tuple, type(None)))
        else type(value).__name__
    )
    return text if len(text) <= 40 else text[:37] + "..."
