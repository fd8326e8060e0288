"""The number format of feature maps while training."""

from __future__ import annotations

import torch


def maps_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where there are units that multiply such matrices (accelerators, CPUs with AMX), else float32.

    Weights, optimizer, codes and pictures stay float32.
    """
    if device.type == "cpu":
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # newer torch
        return torch.bfloat16 if capabilities.get("amx_bf16", False) else torch.float32
    return torch.bfloat16


def fast_products(device: torch.device) -> torch.autocast:
    """The context in which layers that keep float32 weights multiply in `maps_dtype`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=maps_dtype(device) == torch.bfloat16)
