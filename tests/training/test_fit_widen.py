"""A wider generator goes on from a narrower one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from training.fit.networks.stylegan2 import Synthesis
from training.fit.networks.widen import widened


def some(channels: tuple[int, ...]) -> Synthesis:
    torch.manual_seed(0)
    synthesis = Synthesis(channels, 16)
    with torch.no_grad():
        for name, parameter in synthesis.named_parameters():
            if name.endswith("bias") or "noise" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return synthesis


def test_it_draws_the_same_pictures_and_hears_what_is_new() -> None:
    narrow = some((8, 8, 6, 4))
    wide = widened(narrow, (8, 12, 10, 5))
    codes = torch.randn(2, 8, 16)
    assert wide.channels == (8, 12, 10, 5)
    assert torch.allclose(wide(codes), narrow(codes), atol=1e-4)
    wide(codes).square().sum().backward()
    reading = wide.convs[3].conv.weight  # of 10 channels at 16 px
    assert reading.grad[:, :, 6:].abs().max() > 1e-6, "so that the new ones can be learned"
    assert not reading[:, :6, 6:].any()


def test_nothing_new_is_the_same_network() -> None:
    narrow = some((8, 8, 4))
    again = widened(narrow, narrow.channels)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in narrow.state_dict().items())


@pytest.mark.parametrize("channels", [(8, 8), (8, 8, 3), (8, 8, 4, 4)])
def test_a_narrower_or_another_size_is_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected as many resolutions and nowhere fewer channels"):
        widened(some((8, 8, 4)), channels)
