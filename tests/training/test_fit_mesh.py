"""Where a picture matters, and how far two face meshes differ."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from doppelgan.runtime.track.expression import head_axes

from training.fit.losses import mesh


def test_attention_is_where_the_mesh_has_eyes_and_mouth() -> None:
    points = torch.full((2, 468, 3), 0.5)
    points[:, list(mesh._LIPS), 0] = torch.linspace(0.1, 0.3, len(mesh._LIPS))
    points[:, list(mesh._LIPS), 1] = 0.9
    weight = mesh.attention(points, torch.tensor([True, False]), 64, 2.0)
    assert weight.shape == (2, 1, 64, 64)
    assert torch.allclose(weight.mean((1, 2, 3)), torch.ones(2), atol=1e-5)
    assert weight[0, 0, 57, 13] > 1.5 > weight[0, 0, 2, 2]  # where these lips are
    assert weight[1, 0, 30, 24] > 1.5 > weight[1, 0, 57, 13]  # nothing found: where eyes usually are


def test_attention_reaches_as_far_as_the_frames_of_glasses() -> None:
    points, found = torch.rand(2, 468, 3), torch.tensor([False, False])
    bare, framed = mesh.attention(points, found, 64, 2.0, glasses=torch.tensor([False, True]))[:, 0]
    below_the_eye = (36, 24)
    assert framed[below_the_eye] / framed[0, 0] > 1.3 * bare[below_the_eye] / bare[0, 0]


def test_mesh_difference_counts_faces_that_were_found() -> None:
    torch.manual_seed(0)
    wanted = torch.rand(2, 468, 3)
    assert float(mesh.mesh_difference(wanted, wanted, torch.ones(2))) == pytest.approx(0, abs=1e-6)
    other = wanted.clone()
    other[1, 13] += 0.2  # a lip of the second face
    assert float(mesh.mesh_difference(other, wanted, torch.ones(2))) > 0.01
    assert float(mesh.mesh_difference(other, wanted, torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-6)


def test_head_axes_are_those_that_the_runtime_reads() -> None:
    points = torch.rand(2, 468, 3, generator=torch.Generator().manual_seed(1))
    for one, axes in zip(points, mesh.head_axes(points), strict=True):
        assert axes.numpy() == pytest.approx(head_axes(one.numpy()), abs=1e-5)


def test_mesh_difference_counts_a_tilt_that_only_depth_tells() -> None:
    torch.manual_seed(0)
    wanted = torch.rand(1, 468, 3)
    tilted = wanted.clone()
    tilted[:, list(mesh._TOP), 2] += 0.3  # the forehead leans back; seen from the front nothing has moved
    assert float(mesh.mesh_difference(tilted, wanted, torch.ones(1))) > 0.1


def test_mesh_difference_counts_a_raised_brow_far_more_than_a_cheek() -> None:
    wanted = torch.rand(1, 468, 3, generator=torch.Generator().manual_seed(1))

    def moved(point: int) -> float:
        other = wanted.clone()
        other[0, point, 1] -= 0.1
        return float(mesh.mesh_difference(other, wanted, torch.ones(1)))

    brow, cheek = 105, 50
    assert moved(brow) > 8 * moved(cheek)


def test_mesh_difference_counts_lids_more_than_lips() -> None:
    wanted = torch.rand(1, 468, 3, generator=torch.Generator().manual_seed(1))

    def moved(pair: tuple[int, int]) -> float:
        """A gap opened by the same distance at any of its points."""
        other = wanted.clone()
        apart = torch.nn.functional.normalize(other[0, pair[0], :2] - other[0, pair[1], :2], dim=0)
        other[0, pair[0], :2] += 0.1 * apart
        return float(mesh.mesh_difference(other, wanted, torch.ones(1)))

    lids, lips = (159, 145), (13, 14)
    assert moved(lids) > 1.5 * moved(lips)
