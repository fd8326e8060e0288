"""The networks compute what their checkpoint layout promises."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from doppelgan.export.networks.trainable import _up_by_phases, _up_by_transposition, _up_fir, fir_kernel

from training.fit.lessons.encoder import EncoderToCodes
from training.fit.networks.discriminator import Discriminator
from training.fit.networks.encoder import Encoder
from training.fit.networks.stylegan2 import (
    Mapping,
    Synthesis,
    generator_state,
    load_generator,
)
from training.fit.people.features import FeatureCodec


@pytest.mark.parametrize("up", [_up_by_phases, _up_by_transposition])
def test_up_convolution_is_transposed_convolution_then_fir(up) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    x, weight, kernel = torch.randn(2, 5, 8, 8), torch.randn(7, 5, 3, 3), fir_kernel()
    wide = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    padded = F.pad(wide, (1, 1, 1, 1)).reshape(14, 1, 19, 19)
    expected = F.conv2d(padded, kernel.flip(0, 1)[None, None]).reshape(2, 7, 16, 16)
    assert torch.allclose(up(x, weight, kernel), expected, atol=1e-4)


def test_a_mapping_continues_under_another_conditioning() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 12)
    codec = FeatureCodec([f"f{i}" for i in range(12)], {"pose": [1, 2]}, 16).fit(x.numpy())
    old = Mapping(16, 2, codec.conditioning())
    new = Mapping(16, 2, codec.conditioning() * torch.linspace(0.5, 2, 16)[:, None])
    new.load_folded(old.folded_state())
    z = codec.quiet_z(codec.standardize(x))
    assert torch.allclose(new.skip_norm(z), old.skip_norm(z), atol=1e-4)
    assert not torch.allclose(new[1].weight, old[1].weight, atol=1e-2)


def test_skip_is_zero_insertion_then_fir() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    spaced = torch.zeros(2, 3, 16, 16)
    spaced[:, :, ::2, ::2] = x
    padded = F.pad(spaced, (2, 1, 2, 1)).reshape(6, 1, 19, 19)
    expected = F.conv2d(padded, fir_kernel().flip(0, 1)[None, None]).reshape(2, 3, 16, 16)
    assert torch.allclose(_up_fir(x), expected, atol=1e-6)


def test_checkpoint_is_read_by_the_exporter_and_agrees(tmp_path) -> None:  # type: ignore[no-untyped-def]
    export = pytest.importorskip("doppelgan.export")
    torch.manual_seed(0)
    mapping, synthesis = Mapping(32, 3, torch.randn(32, 32)), Synthesis((16, 12, 8), 32)
    with torch.no_grad():
        for name, parameter in synthesis.named_parameters():
            if name.endswith("bias") or "noise" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "generator.pt"
    torch.save({"g_ema": generator_state(mapping, synthesis), "latent_avg": torch.zeros(32)}, path)
    weights = export.generator_weights(export.read_checkpoint(path))
    codes, z = torch.randn(2, 6, 32), torch.randn(3, 32)
    with torch.no_grad():
        assert torch.allclose(export.Synthesis(weights)(codes), synthesis(codes), atol=1e-4)
        assert torch.allclose(export.Mapping(weights)(z), mapping(z), atol=1e-5)


def test_generator_comes_back_from_its_state_dict() -> None:
    mapping, synthesis = Mapping(24, 2), Synthesis((8, 8, 4), 24)
    again = load_generator(
        {name: value.half() for name, value in generator_state(mapping, synthesis).items()}
    )
    codes = torch.randn(1, 6, 24)
    assert again[1].channels == (8, 8, 4)
    assert torch.allclose(again[1](codes), synthesis(codes), atol=0.05)
    assert torch.allclose(again[0](torch.ones(1, 24)), mapping(torch.ones(1, 24)), atol=0.05)


def test_lower_resolutions_are_pictures_too() -> None:
    synthesis = Synthesis((8, 8, 8, 4), 24)
    codes = torch.randn(2, 8, 24)
    assert synthesis(codes, 8).shape == (2, 3, 8, 8)
    assert synthesis(codes).shape == (2, 3, 32, 32)


def test_conditioning_is_folded_into_the_first_mapping_layer() -> None:
    mapping = Mapping(16, 2, torch.randn(16, 16), noise=0.5).eval()
    plain = Mapping(16, 2).eval()
    plain.load_state_dict(mapping.folded_state())
    z = torch.randn(3, 16)
    assert torch.allclose(plain(z), mapping(z), atol=1e-5)


def test_conditioning_is_blind_to_the_slack() -> None:
    codec = FeatureCodec([f"f{i}" for i in range(11)], {"pose": [0, 1]}, 16)
    mapping = Mapping(16, 2, codec.conditioning())
    z = torch.randn(1, 16)
    other = z.clone()
    other[:, -5:] = torch.randn(1, 5)
    assert torch.equal(mapping.skip_norm(z), mapping.skip_norm(other))


def test_feature_noise_is_for_training_alone() -> None:
    mapping = Mapping(16, 2, noise=0.5)
    z = torch.randn(2, 16)
    assert not torch.equal(mapping(z), mapping(z))
    mapping.eval()
    assert torch.equal(mapping(z), mapping(z))


def test_what_is_remembered_replaces_appearance_and_never_motion() -> None:
    torch.manual_seed(3)
    moving, still = [1, 4], [0, 2, 3, 5]
    names = ["glasses=none", "jaw", "glasses=round", "age", "yaw", "skin"]
    codec = FeatureCodec(names, {"motion": moving}, 8).fit(torch.randn(50, 6).numpy())
    encoder = Encoder(64, moving, 6, 4, 8, widths=(8, 8, 8), depths=(0, 0, 0)).eval()
    mapping = Mapping(8, 2)
    network = EncoderToCodes(encoder, codec, mapping).eval()
    crop, mesh = torch.randn(2, 3, 64, 64), torch.rand(2, 468, 3) * 64
    memory = torch.randn(2, 4)
    with torch.no_grad():
        read, _ = encoder(crop, mesh)
        for trust in (0.0, 0.25, 1.0):
            codes, appearance = network(crop, mesh, memory, torch.full((2, 1), trust))
            expected = read.clone()
            expected[:, still] = (1 - trust) * read[:, still] + trust * memory
            assert torch.allclose(appearance, expected[:, still], atol=1e-6)
            w = mapping.skip_norm(codec.quiet_z(codec.decided(expected)))
            assert torch.allclose(codes, w[:, None].expand(-1, 4, -1), atol=1e-5)


def test_encoder_separates_motion_from_looks() -> None:
    encoder = Encoder(
        64, motion=[1, 3], features=6, n_styles=4, w_dim=8, widths=(8, 8, 8), depths=(0, 0, 0)
    ).eval()
    crop, mesh = torch.randn(2, 3, 64, 64), torch.rand(2, 468, 3) * 64
    estimate, offset = encoder(crop, mesh)
    assert estimate.shape == (2, 6)
    assert offset.shape == (2, 4, 8)
    assert not offset.any()
    changed = crop.clone()
    changed[:, :, 56:] = 0  # a shirt says nothing about the motion
    again, _ = encoder(changed, mesh)
    assert torch.equal(again[:, [1, 3]], estimate[:, [1, 3]])
    assert not torch.equal(again[:, [0, 2]], estimate[:, [0, 2]])


def test_discriminator_scores_and_maps() -> None:
    discriminator = Discriminator((8, 8, 4), condition=5)
    score, maps = discriminator(torch.randn(4, 3, 16, 16), torch.randn(4, 5))
    assert score.shape == (4,)
    assert [m.shape[-1] for m in maps] == [8, 4]
