"""Muon for matrices beside Adam, as one optimizer."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from training.fit import optimizers
from training.fit.networks.stylegan2 import Synthesis
from training.fit.optimizers import MuonAndAdam

RATE = 1e-2


def network() -> Synthesis:
    torch.manual_seed(0)
    return Synthesis((16, 12), 32)


def optimizer_of(made: Synthesis) -> MuonAndAdam:
    return MuonAndAdam([{"params": made.named_parameters(), "lr": RATE, "peak": RATE}], betas=(0.8, 0.99))


def learn(made: Synthesis, optimizer: MuonAndAdam, steps: int) -> None:
    codes = torch.randn(3, made.n_styles, 32, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        made(codes).square().mean().backward()
        optimizer.step()


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["muon", "adam alone"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    monkeypatch.setattr(optimizers, "maps_dtype", lambda _: request.param)
    assert isinstance(request.param, torch.dtype)
    return request.param


def test_every_parameter_has_one_optimizer_and_moves(dtype: torch.dtype) -> None:
    made = network()
    before = copy.deepcopy(made)
    optimizer = optimizer_of(made)
    assert len(optimizer.parts) == (2 if dtype == torch.bfloat16 else 1)
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == sum(
        p.numel() for p in made.parameters()
    )
    learn(made, optimizer, 1)
    for (name, new), old in zip(made.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(new, old), name


def test_a_convolution_steps_in_every_direction_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "maps_dtype", lambda _: torch.bfloat16)
    made = network()
    before = made.convs[1].conv.weight.detach().clone()
    learn(made, optimizer_of(made), 1)
    step = (made.convs[1].conv.weight.detach() - before)[0].flatten(1)
    lengths = torch.linalg.svdvals(step)
    assert lengths.min() > 0.5 * lengths.max()
    assert 0.1 * RATE < step.square().mean().sqrt() < 0.3 * RATE, "as long as a step of Adam"


def test_it_goes_on_from_its_state(dtype: torch.dtype) -> None:
    made = network()
    optimizer = optimizer_of(made)
    learn(made, optimizer, 2)
    again = copy.deepcopy(made)
    other = optimizer_of(again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    learn(made, optimizer, 2)
    learn(again, other, 2)
    for one, two in zip(made.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
