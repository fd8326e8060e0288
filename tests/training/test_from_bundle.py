"""The embedded bundle, taken back into networks that can go on learning, computes what it computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from doppelgan.runtime import Bundle, open_bundle

from training.fit.lessons.encoder import EncoderToCodes, load_encoder
from training.fit.networks.stylegan2 import Synthesis, load_generator
from training.fit.people.features import FeatureCodec
from training.from_bundle import from_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(ROOT / "engines" / "demo", backend="onnxruntime", compiled=False)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("start")
    names = [path.name for path in from_bundle(ROOT / "engines" / "demo", out)]
    assert names == ["generator-photo.pt", "generator-toon.pt", "encoder.pt", "features.npz", "regressor.pt"]
    return out


def generator(start: Path, style: str) -> tuple[torch.nn.Module, Synthesis]:
    return load_generator(torch.load(start / f"generator-{style}.pt", weights_only=True)["g_ema"])


@pytest.mark.parametrize("style", ["photo", "toon"])
def test_generators_draw_the_same(start: Path, bundle: Bundle, style: str) -> None:
    mapping, synthesis = generator(start, style)
    z = np.random.default_rng(0).standard_normal((2, bundle.manifest.z_dim)).astype(np.float32)
    with torch.no_grad():
        w = mapping(torch.from_numpy(z))
        pictures = synthesis(w[:, None].expand(-1, bundle.n_styles, -1)).numpy()
    np.testing.assert_allclose(w, bundle.map(z), atol=2e-4)
    stored = bundle.synthesize(np.repeat(w.numpy()[:, None], bundle.n_styles, 1), style)
    assert np.abs(pictures - stored).max() < 2e-3
    assert stored.std() > 0.1


def test_the_encoder_reads_the_same_and_goes_on_from_there(start: Path, bundle: Bundle) -> None:
    codec = FeatureCodec.load(start / "features.npz")
    mapping, _ = generator(start, "photo")
    encoder = load_encoder(start / "encoder.pt")
    whole = EncoderToCodes(encoder, codec, mapping).eval()
    session = bundle.session("encoder")
    rng = np.random.default_rng(1)
    codes = bundle.latent["samples"][:4]
    crops = np.clip(bundle.synthesize(codes), -1, 1)
    landmarks = (
        (encoder.landmark_mean.reshape(1, -1, 3).numpy() + rng.normal(0, 0.01, (4, 1, 3))) * encoder.size / 2
    )
    memory = rng.standard_normal((4, len(whole.still))).astype(np.float32)
    for i, trust in enumerate((0.0, 0.3, 0.7, 1.0)):
        feeds = {
            "crop": crops[i : i + 1],
            "landmarks": landmarks[i : i + 1].astype(np.float32),
            "memory": memory[i : i + 1],
            "trust": np.array([[trust]], np.float32),
        }
        want = session.run(feeds)
        with torch.no_grad():
            got = whole(*(torch.from_numpy(value) for value in feeds.values()))
        np.testing.assert_allclose(got[1], want["appearance"], atol=5e-3)
        np.testing.assert_allclose(got[0], want["codes"], atol=1e-2, rtol=5e-3)

    # While training, normalization uses the batch's own statistics: those it came back with are of that kind.
    pictures, points = torch.from_numpy(crops), torch.from_numpy(landmarks.astype(np.float32))
    with torch.no_grad():
        calm = encoder(pictures, points)[0]
        training = encoder.train()(pictures, points)[0]
    assert (calm - training).abs().mean() < 0.5 * calm.abs().mean()


def test_normalization_is_not_left_out(start: Path) -> None:
    state = torch.load(start / "encoder.pt", weights_only=True)["encoder"]
    spreads = [value for name, value in state.items() if name.endswith("running_var")]
    assert len(spreads) == 22
    assert all(not torch.allclose(spread, torch.ones_like(spread)) for spread in spreads)
