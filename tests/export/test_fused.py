"""The arranged element-wise steps equal the plain ones, derivatives included."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from doppelgan.export.networks import fused
from doppelgan.export.networks.trainable import fir_kernel
from torch import Tensor


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor[:, :, None, None]


def activated(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    return F.leaky_relu(x * factor[:, :, None, None] + offset, 0.2)


def blurred(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), padding=1, groups=x.shape[1])


def colored(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    return F.conv2d(x * style[:, :, None, None], weight[:, :, None, None])


CASES = {
    "scale": (fused.scale, scaled, [(2, 5)]),
    "activate": (fused.activate, activated, [(2, 5), (1, 5, 6, 7)]),
    "to_colors": (fused.to_colors, colored, [(3, 5), (2, 5)]),
}


def slopes(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    inputs = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_(True) for x in inputs]
    y = function(*inputs)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    return [y.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CASES)
def test_arranged_steps_equal_the_plain_ones(name: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    fast, plain, shapes = CASES[name]
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64).contiguous(memory_format=layout)
    inputs = [x, *(torch.randn(shape, dtype=torch.float64) for shape in shapes)]
    for got, expected in zip(slopes(fast, inputs), slopes(plain, inputs), strict=True):
        assert torch.allclose(got, expected, atol=1e-12)


def test_blur_is_its_own_transpose() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 9, 9, dtype=torch.float64)
    kernel = fir_kernel().double()
    for got, expected in zip(
        slopes(lambda x: fused.blur(x, kernel), [x]), slopes(lambda x: blurred(x, kernel), [x]), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-12)


def test_maps_stay_where_they_are() -> None:
    x = torch.randn(2, 5, 6, 7).contiguous(memory_format=torch.channels_last)
    assert fused.rows(x).data_ptr() == x.data_ptr()
    assert torch.equal(fused.maps(fused.rows(x), 5), x)
