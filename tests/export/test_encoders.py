"""Every encoder class equals its unfused self."""

from __future__ import annotations

import pytest
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.encoders import KINDS, Encoder
from doppelgan.runtime.errors import CheckpointError

from . import reference_encoders as reference
from . import seeds

N_STYLES = 8  # coarse, middle and fine heads


def build(state: seeds.State, kind: str, **more: object) -> Encoder:
    return Encoder(TensorTable(state, "encoder", "tiny.pt"), kind, N_STYLES, seeds.TINY_W_DIM, **more)  # type: ignore[arg-type]


# Norm, first and last value of the reference's codes: they pin the reference and the weights.
GOLDEN = {
    "GradualStyleEncoder": (1.2239, -0.1155, -0.0903),
    "Encoder4Editing": (1.7626, -0.1155, -0.0019),
    "BackboneEncoderUsingLastLayerIntoW": (1.2448, -0.0195, 0.0549),
    "SingleStyleCodeEncoder": (1.2448, -0.0195, 0.0549),
    "BackboneEncoderUsingLastLayerIntoWPlus": (1.9310, -0.1037, -0.0018),
    "BackboneEncoder": (1.0635, -0.1128, -0.0992),
    "ProgressiveBackboneEncoder": (1.6172, -0.1128, -0.0283),
    "ResNetGradualStyleEncoder": (1.4232, -0.1479, -0.1353),
    "ResNetBackboneEncoder": (1.2203, -0.1528, -0.0811),
    "ResNetProgressiveBackboneEncoder": (2.0505, -0.1528, 0.0091),
}


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_unfused_layers(kind: str) -> None:
    in_channels = 6 if "Backbone" in kind and "LastLayer" not in kind else 3
    state = seeds.encoder(kind, N_STYLES, in_channels=in_channels)
    crop = seeds.fill("crop", (2, in_channels, 256, 256), 0.5).clamp(-1, 1)
    average = seeds.fill("average", (N_STYLES, seeds.TINY_W_DIM), 0.3)
    with torch.inference_mode():
        encoder = build(state, kind, latent_avg=average)
        got = encoder(crop)
        plain = reference.encode(state, kind, N_STYLES, crop)
        want = plain + average
    assert (float(plain.norm()), float(plain[0, 0, 0]), float(plain[1, -1, -1])) == pytest.approx(
        GOLDEN[kind], abs=2e-4
    )
    assert encoder.in_channels == in_channels
    assert got.shape == (2, N_STYLES, seeds.TINY_W_DIM)
    assert float((got - want).norm() / want.norm()) < 1e-5
    assert float((got[0] - got[1]).norm() / want.norm()) > 1e-4  # the crop matters


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "Encoder4Editing",
            ("body.5.res_layer.1.weight", None),
            "expected a tensor 'body.5.res_layer.1.weight'",
        ),
        (
            "Encoder4Editing",
            ("latlayer1.weight", torch.zeros(10, 7, 1, 1)),
            r"expected shape \[10, 8, 1, 1\]",
        ),
        (
            "Encoder4Editing",
            ("styles.7.convs.10.weight", None),
            "expected 6 convolutions for its 64x64 map, got 5",
        ),
        ("Encoder4Editing", ("styles.8.linear.weight", torch.zeros(16, 10)), "expected 8 encoder heads"),
        ("BackboneEncoder", ("styles.0.linear.weight", torch.zeros(12, 10)), r"expected shape \[16, 10\]"),
        (
            "BackboneEncoder",
            ("body.24.res_layer.1.weight", torch.zeros(1)),
            "expected the 24 units of IR-SE-50",
        ),
        ("ResNetBackboneEncoder", ("bn1.running_var", None), "expected a tensor 'bn1.running_var'"),
    ],
)
def test_error_names_the_offending_tensor(
    kind: str, change: tuple[str, torch.Tensor | None], message: str
) -> None:
    state = seeds.encoder(kind, N_STYLES)
    key, value = change
    if value is None:
        del state[key]
    else:
        state[key] = value
    with pytest.raises(CheckpointError, match=message):
        build(state, kind)


def test_error_on_an_unknown_encoder_type_lists_the_known_ones() -> None:
    with pytest.raises(
        CheckpointError, match=r"expected an encoder_type of GradualStyleEncoder.*got 'HyperEncoder'"
    ):
        build(seeds.encoder("BackboneEncoder", N_STYLES), "HyperEncoder")
