"""Losses and measures on pictures."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.losses import pictures as losses


def test_psnr_and_ms_ssim() -> None:
    torch.manual_seed(0)
    real = torch.nn.functional.interpolate(
        torch.rand(2, 3, 16, 16) * 1.6 - 0.8, size=(256, 256), mode="bicubic"
    ).clamp(-1, 1)
    assert losses.psnr(real + 0.02, real) == pytest.approx(40.0, abs=0.5)
    assert torch.allclose(losses.ms_ssim(real, real), torch.ones(2), atol=1e-4)
    a, b = (losses.ms_ssim(real + s * torch.randn_like(real), real).mean() for s in (0.05, 0.4))
    assert b < a < 1


def test_structure_sees_lost_contrast_and_not_equal_pictures() -> None:
    torch.manual_seed(0)
    real = torch.rand(2, 3, 64, 64) * 2 - 1
    assert float(losses.structure(real, real, 64)) == pytest.approx(0, abs=1e-4)
    flat = real.mean((2, 3), keepdim=True).expand_as(real)
    pale = 0.5 * real
    assert float(losses.structure(flat, real, 64)) > float(losses.structure(pale, real, 64)) > 0.05


def test_structure_counts_a_scale_as_ms_ssim_does() -> None:
    torch.manual_seed(1)
    real = torch.nn.functional.interpolate(torch.rand(1, 3, 32, 32) * 2 - 1, size=(128, 128))
    dots = 0.3 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(64, 64)  # averaged down, they are gone
    as_full_size = float(losses.structure(real + dots, real, 128))
    as_half_of_full = float(losses.structure(real + dots, real, 256))
    assert 0 < as_full_size < 0.3 * as_half_of_full


def test_structure_follows_ms_ssim() -> None:
    torch.manual_seed(2)
    real = torch.nn.functional.interpolate(
        torch.rand(1, 3, 16, 16) * 1.6 - 0.8, size=(128, 128), mode="bicubic"
    )
    noise = torch.nn.functional.interpolate(torch.randn(1, 3, 64, 64), size=(128, 128), mode="bicubic")
    for strength in (0.1, 0.3):
        other = real + strength * noise
        likeness = 1 - float(losses.structure(other, real, 128))
        assert likeness == pytest.approx(float(losses.ms_ssim(other, real).mean()), abs=0.05)
