"""Read a checkpoint file of any supported layout and tell by its content what it is.

Containers, told by their first bytes: a zip or older archive of ``torch.save`` (read with
``weights_only=True``), a pickle of NVIDIA's modules (``nvidia_pickle.py``), safetensors. Content, told by
tensor names: a StyleGAN2 generator in rosinality's or NVIDIA's layout, an encoder of the pSp family, or
an encoder with its generator (``decoder.*``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from doppelgan.runtime.errors import CheckpointError
from doppelgan.runtime.host.files import under_plain_name

from .module_attributes import Modules, read_attributes
from .nvidia_pickle import CONVERTERS, ModuleRecord, read_pickle
from .tensors import TensorTable, require_finite
from .torch_file import LEGACY_TORCH, read_torch

Layout = Literal["rosinality", "nvidia"]
_WRAPPERS = ("module", "_orig_mod")
_EXPECTED = "a StyleGAN2 generator or a pSp, e4e or ReStyle encoder"


@dataclass(frozen=True)
class Checkpoint:
    """The networks in one file; at least one of ``generator`` and ``encoder`` is there."""

    path: Path
    layout: str  # for people: "rosinality stylegan2", "pSp family (Encoder4Editing)" ...
    generator: TensorTable | None = None
    generator_layout: Layout | None = None
    modules: Modules = field(default_factory=dict)  # attributes of a pickled generator, module_attributes.py
    encoder: TensorTable | None = None
    encoder_type: str | None = None
    latent_avg: torch.Tensor | None = None  # float32 [w_dim] or [n_styles, w_dim]
    options: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read and recognize ``path``. Raises CheckpointError saying what came instead of what was expected."""
    path = Path(path)
    if not path.is_file():
        state = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"{path}: expected a checkpoint file, got {state}; check the path")
    try:
        entries, records, options = _flatten(_read_container(path))
        content = _recognize(path, entries, records, options)
    except RecursionError:
        raise CheckpointError(
            f"{path.name}: expected a tree of tensors, got one that holds itself; the file is damaged: "
            "take the original file"
        ) from None
    for table in (content.generator, content.encoder):
        if table is not None:
            table.require_finite()
    if content.latent_avg is not None:
        require_finite(content.latent_avg, f"{path.name}: latent_avg")
    return content


def _read_container(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise CheckpointError(
            f"{path}: expected a readable file, got {error.strerror}; check the path"
        ) from None
    if head[:2] == b"PK" or head.startswith(LEGACY_TORCH):
        return read_torch(path, archive=head[:2] == b"PK")
    if head[:1] == b"\x80":
        return read_pickle(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _read_safetensors(path)
    if len(head) > 8 and head[8:9] == b"{":
        raise CheckpointError(
            f"{path.name}: expected a complete safetensors file, got a cut one; download it again"
        )
    raise CheckpointError(
        f"{path.name}: expected {_EXPECTED} saved by torch, NVIDIA's pickle or safetensors, "
        f"got a file that begins with {head[:8]!r}; give the checkpoint itself"
    )


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with under_plain_name(path) as name, safe_open(name, framework="pt", device="cpu") as file:
            content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise CheckpointError(
            f"{path.name}: expected a complete safetensors file, got a damaged one ({error}); "
            "download it again"
        ) from None
    # Options are text in this container: either one JSON entry or one entry per option.
    try:
        options = json.loads(notes.pop("opts", "{}"))
        if not isinstance(options, dict):
            raise ValueError(options)
    except (ValueError, RecursionError):
        raise CheckpointError(
            f"{path.name}: expected JSON under 'opts' in the metadata, got other text"
        ) from None
    content["opts"] = {**notes, **options}
    return content


def _flatten(content: Any) -> tuple[dict[str, torch.Tensor], dict[str, ModuleRecord], dict[str, Any]]:
    """All tensors by dotted name, pickled modules by prefix ("G_ema."), and the options."""
    entries: dict[str, torch.Tensor] = {}
    records: dict[str, ModuleRecord] = {}
    options: dict[str, Any] = {}

    def visit(value: Any, prefix: str) -> None:
        if isinstance(value, torch.Tensor):
            entries[_unwrapped(prefix)] = value
        elif isinstance(value, ModuleRecord):
            records[f"{prefix}." if prefix else ""] = value
            for name, tensor in value.tensors().items():
                entries[f"{prefix}.{name}" if prefix else name] = tensor
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key == "opts" and isinstance(inner, (dict, argparse.Namespace)):
                    options.update(inner if isinstance(inner, dict) else vars(inner))
                elif isinstance(key, str) and key not in ("d", "D", "d_optim", "g_optim", "optimizer"):
                    visit(inner, f"{prefix}.{key}" if prefix else key)

    visit(content, "")
    return entries, records, options


def _unwrapped(name: str) -> str:
    """A tensor's name without what DataParallel, AveragedModel ("module.") and torch.compile add to it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _recognize(
    path: Path,
    entries: dict[str, torch.Tensor],
    records: Mapping[str, ModuleRecord],
    options: dict[str, Any],
) -> Checkpoint:
    table = TensorTable(entries, "checkpoint", path.name)
    average = entries.get("latent_avg")
    layout, prefix = _find_generator(entries)
    record = None if prefix is None else records.get(prefix)
    modules = {} if record is None else read_attributes(record, path.name)
    generator = None if prefix is None else table.under(prefix, "generator")

    # IR-SE-50 begins with input_layer, ResNet-34 with conv1.
    encoder_prefix = next(
        (
            p
            for p in ("state_dict.encoder.", "encoder.")
            if f"{p}input_layer.0.weight" in entries or f"{p}conv1.weight" in entries
        ),
        None,
    )
    if encoder_prefix is not None:
        kind = options.get("encoder_type")
        if not isinstance(kind, str):
            raise CheckpointError(
                f"{path.name}: expected opts.encoder_type beside the encoder's tensors, got {kind!r}; "
                "tensors alone do not tell pSp from e4e: save opts too (safetensors: JSON in metadata 'opts')"
            )
        return Checkpoint(
            path=path,
            layout=f"pSp family ({kind})",
            generator=generator,
            generator_layout=layout,
            encoder=table.under(encoder_prefix, "encoder"),
            encoder_type=kind,
            latent_avg=average,
            options=options,
        )
    if generator is not None:
        _refuse_variants(path, generator, layout)
        return Checkpoint(
            path=path,
            layout="rosinality stylegan2" if layout == "rosinality" else "NVIDIA stylegan2-ada",
            generator=generator,
            generator_layout=layout,
            modules=modules,
            latent_avg=average,
            options=options,
        )
    raise CheckpointError(f"{path.name}: expected {_EXPECTED}, got {_describe(entries)}")


def _find_generator(entries: Mapping[str, torch.Tensor]) -> tuple[Layout | None, str | None]:
    """Layout and name prefix. Of several in a training state, the moving average is the good one."""
    places: tuple[tuple[Layout, str, tuple[str, ...]], ...] = (
        ("rosinality", "input.input", ("g_ema.", "state_dict.decoder.", "decoder.", "", "state_dict.", "g.")),
        ("nvidia", "synthesis.b4.const", ("G_ema.", "", "state_dict.", "G.")),
    )
    for layout, marker, prefixes in places:
        for prefix in prefixes:
            if prefix + marker in entries:
                return layout, prefix
    return None, None


def _refuse_variants(path: Path, generator: TensorTable, layout: Layout | None) -> None:
    if layout != "nvidia":
        return
    if "mapping.embed.weight" in generator:
        classes = int(generator["mapping.embed.weight"].shape[1])
        raise CheckpointError(
            f"{path.name}: expected an unconditional generator, got one with {classes} classes; "
            "train or take one without labels"
        )
    if any(name.endswith(".skip.weight") for name in generator):
        raise CheckpointError(
            f"{path.name}: expected the 'skip' architecture, got 'resnet'; "
            "take a generator of the default architecture"
        )


def _describe(entries: Mapping[str, torch.Tensor]) -> str:
    """What a file without a known network seems to be, and what to do with it."""
    names = set(entries)
    if any(".synthesis.input." in f".{n}" for n in names):
        return "a StyleGAN3 generator; only StyleGAN2 can be exported"
    if "eigvec" in names or "comp" in names:
        return "edit directions; pass the file with --direction"
    if len(names) == 1 and next(iter(entries.values())).shape[-1:] == (512,):
        return "a latent code or direction; pass a direction with --direction"
    if any("synthesis/" in n for n in names):
        return f"TensorFlow variables; convert the original pickle with {CONVERTERS}"
    if not names:
        return "no tensors at all; check the file"
    shown = ", ".join(sorted(names)[:3])
    return (
        f"{len(names)} tensors of an unknown network ({shown} ...); check which file the model's page names"
    )
