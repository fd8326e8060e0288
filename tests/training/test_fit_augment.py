"""The augmentations: crops as the live pipeline makes them, and the camera."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from training.fit.people import augment


def test_warp_moves_picture_and_mesh_together() -> None:
    picture = torch.full((1, 3, 64, 64), -1.0)
    picture[:, :, 20:24, 40:44] = 1  # center (42, 22) px = 0.65625, 0.34375
    mesh = torch.tensor([[[42 / 64, 22 / 64, 0.1]]])
    matrix = torch.tensor([[[0.8, 0.1, 0.1], [-0.1, 0.8, 0.15]]])
    crop, moved = augment.warp(picture, matrix, mesh)
    lit = (crop[0, 0] + 1).clamp(min=0)
    line = (torch.arange(64) + 0.5) / 64
    x, y = (lit.sum(0) * line).sum() / lit.sum(), (lit.sum(1) * line).sum() / lit.sum()
    assert torch.allclose(moved[0, 0, :2], torch.stack([x, y]), atol=0.01)


def test_aligned_matrix_is_the_ffhq_square() -> None:
    mesh = torch.zeros(1, 468, 3)
    mesh[:, list(augment._RIGHT_EYE), 0], mesh[:, list(augment._LEFT_EYE), 0] = 0.4, 0.6
    mesh[:, [*augment._RIGHT_EYE, *augment._LEFT_EYE], 1] = 0.45
    mesh[:, 61], mesh[:, 291] = torch.tensor([0.43, 0.65, 0]), torch.tensor([0.57, 0.65, 0])
    matrix = augment.aligned_matrix(mesh)[0]
    # Eye to eye 0.2 and eye to mouth 0.2: half a side is max(2 x 0.2, 1.8 x 0.2) = 0.4, the center 0.02 below
    # the eyes.
    assert torch.allclose(matrix[:, :2], torch.eye(2) * 0.8, atol=1e-5)
    assert torch.allclose(matrix @ torch.tensor([0.5, 0.5, 1]), torch.tensor([0.5, 0.47]), atol=1e-5)


def test_jitter_turns_about_the_center() -> None:
    torch.manual_seed(0)
    matrix = augment.jitter_matrix(4, 0.0, 0.5, 0.2, torch.device("cpu"))
    assert torch.allclose(matrix @ torch.tensor([0.5, 0.5, 1]), torch.full((4, 2), 0.5), atol=1e-6)


def test_camera_keeps_shape_range_and_some_clean_pictures() -> None:
    torch.manual_seed(0)
    clean = torch.rand(16, 3, 64, 64) * 2 - 1
    told = clean[:, :, 0, :2]
    seen, answer = augment.camera(clean, told, clean=0.5)
    assert seen.shape == clean.shape
    assert seen.abs().max() <= 1
    assert torch.isfinite(seen).all()
    same = (seen == clean).all(3).all(2).all(1)
    assert 2 <= int(same.sum()) <= 14
    assert torch.equal((answer == told).all(2).all(1), same), "told what became of whose colors"


def test_camera_tells_what_it_makes_of_a_color() -> None:
    torch.manual_seed(4)
    color = torch.rand(8, 3, 1) * 1.6 - 0.8
    plain = color[..., None].expand(-1, -1, 33, 33)
    seen, told = augment.colors(plain, color)
    assert torch.allclose(seen[:, :, 16, 16], told[..., 0], atol=0.02), "in the middle no light falls off"
    assert (told - color).abs().mean() > 0.05
