"""The same networks in PyTorch: as their own programs compute them, ours, and compiled with CUDA graphs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from doppelgan.export.networks.stylegan2 import Synthesis
from torch import Tensor, nn

from . import networks
from .card import Card
from .measuring import distance, timed
from .turns import Notes

Run = Callable[[Tensor], Tensor]
COMPILE = {"mode": "reduce-overhead", "fullgraph": True, "dynamic": False}  # "reduce-overhead": CUDA graphs


def run(notes: Notes, rehearse: bool, network: str) -> None:
    card = Card()
    device = torch.device("cpu" if rehearse else "cuda")
    torch.set_grad_enabled(False)
    encoder = network in networks.ENCODERS
    if encoder:
        name = f"{network} encoder"
        samples = torch.from_numpy(networks.crops(8, networks.ENCODERS[network][1]))
        modules = {"ours": networks.encoder_module(network, rehearse)}
        modules["original"] = networks.OriginalEncoder(network, rehearse)
    else:
        name = f"StyleGAN2 {network}"
        state = networks.generator_state(int(network), rehearse)
        weights = networks.generator_weights(state)
        samples = networks.codes_of(weights, 8)
        from ..original_stylegan2 import OriginalSynthesis

        plain = {k: v for k, v in state.items() if not k.startswith("style.")}
        modules = {"original": OriginalSynthesis(plain).eval(), "ours": Synthesis(weights).eval()}
    samples = samples.to(device)
    modules = {label: module.to(device) for label, module in modules.items()}
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    reference = [modules["ours"](sample[None]).float().cpu().numpy() for sample in samples[:4]]

    half = {label: _half(module) for label, module in modules.items()}
    ways: list[tuple[str, int, Run, bool]] = []
    tries = [("ours", 1), ("ours", 8), *([("original", 1)] if network == "256" else [])]  # which takes long
    for label, n in tries:
        began = time.monotonic()
        compiled = notes.attempt(f"compile {label} {n}", _compiling(half[label], samples, n, rehearse))
        if compiled is not None:
            notes.add(
                "compiled", network=name, how=label, batch=n, seconds=round(time.monotonic() - began, 1)
            )
            ways.append((f"{label}, torch.compile, float16, CUDA graphs, batch {n}", n, compiled, True))
    for n in (1, 8):
        for label, module in modules.items():
            ways.append((f"{label}, eager, TF32, batch {n}", n, module, True))
    ways.append(("ours, eager, float16, batch 1", 1, _in_half(half["ours"]), True))
    ways += [(f"{label}, eager, float32, batch 1", 1, module, False) for label, module in modules.items()]
    if device.type == "cuda":
        torch.cuda.empty_cache()  # others prepare, too
    notes.wait_for_turn()
    for how, n, way, tf32 in ways:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        notes.attempt(f"time {how}", _timing(notes, name, how, n, way, samples, reference, card, rehearse))


def _half(module: nn.Module) -> nn.Module:
    from copy import deepcopy

    copied = deepcopy(module).half()
    for tensor in [*copied.parameters(), *copied.buffers()]:
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return copied


def _in_half(module: nn.Module) -> Run:
    return lambda x: module(x.half())


def _compiling(module: nn.Module, samples: Tensor, n: int, rehearse: bool) -> Callable[[], Run]:
    def work() -> Run:
        compiled = module if rehearse else torch.compile(module, **COMPILE)  # type: ignore[call-overload]
        fixed = samples[:n].half()
        if fixed.ndim == 4:
            fixed = fixed.contiguous(memory_format=torch.channels_last)
        for _ in range(4):  # compiles, then captures
            compiled(fixed)
        return lambda x: compiled(x.half().contiguous(memory_format=_layout(x)))

    return work


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.ndim == 4 else torch.contiguous_format


def _timing(
    notes: Notes,
    name: str,
    how: str,
    n: int,
    way: Run,
    samples: Tensor,
    reference: Any,
    card: Card,
    rehearse: bool,
) -> Callable[[], None]:
    def synchronize() -> None:
        if samples.is_cuda:
            torch.cuda.synchronize()

    def work() -> None:
        if n == 1:
            got = [way(sample[None]).float().cpu().numpy() for sample in samples[:4]]
        else:
            together = way(samples[:n]).float().cpu().numpy()
            got = [one[None] for one in together[:4]]
        notes.add(
            "check",
            network=name,
            how=how,
            against="PyTorch float32",
            **distance(reference, got, "StyleGAN2" in name),
        )
        x = samples[:n].contiguous()

        def once() -> None:
            way(x)
            synchronize()

        if samples.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        brief: dict[str, Any] = {"seconds": 0.05, "least": 3} if rehearse else {"seconds": 0.4, "least": 60}
        row = timed(once, card, **brief)
        if samples.is_cuda:
            row["memory_mb"] = round(torch.cuda.max_memory_reserved() / 1e6)
        notes.add("time", network=name, how=how, computes=f"PyTorch {torch.__version__}", batch=n, **row)

    return work
