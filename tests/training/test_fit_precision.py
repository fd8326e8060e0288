"""Feature maps are bfloat16 where that is fast, and draw the same pictures."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from training.fit.networks import precision
from training.fit.networks.stylegan2 import Synthesis


@pytest.mark.parametrize(
    ("known", "expected"), [({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)]
)
def test_cpus_compute_maps_in_bfloat16_only_with_amx(
    known: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert precision.maps_dtype(torch.device("cpu")) == expected


def test_an_older_torch_that_cannot_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.maps_dtype(torch.device("cpu")) == torch.float32


def test_pictures_and_gradients_agree_in_both_formats() -> None:
    torch.manual_seed(0)
    network = Synthesis((16, 16, 8, 8), 16)
    codes = torch.randn(3, network.n_styles, 16)
    pictures, gradients = [], []
    for dtype in (torch.float32, torch.bfloat16):
        network.zero_grad()
        made = network(codes, dtype=dtype)
        made.square().mean().backward()
        pictures.append(made.detach())
        gradients.append(network.convs[0].conv.weight.grad.flatten().clone())
    assert pictures[1].dtype == torch.float32
    assert (pictures[0] - pictures[1]).abs().mean() < 0.02 * pictures[0].abs().mean()
    assert torch.cosine_similarity(*gradients, dim=0) > 0.995
