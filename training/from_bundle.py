"""From a bundle back to networks that training goes on from: `make_bundle`'s inverse.

    python -m training.from_bundle --bundle engines/demo --out start

writes generator-photo.pt, generator-toon.pt and encoder.pt into a folder that `training.fit --start` takes. A bundle is the only
copy of its weights; what it does not hold, the meaning of features and the judge of edits, is copied from `training/state`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from doppelgan.export.networks.reader import generator_state
from doppelgan.runtime import Bundle, open_bundle
from onnx import numpy_helper
from torch import Tensor, nn

from training.fit.networks.encoder import Encoder, Residual
from training.fit.people.features import FeatureCodec

_PREFIX = "encoder."
_HALF = "_half"  # constants that make_bundle stored as float16


STATE = Path(__file__).parent / "state"


def from_bundle(folder: Path, out: Path, state: Path = STATE) -> list[Path]:
    """Write the networks of the bundle in `folder`, and what `state` holds, to `out`; returns the files.

    Raises BundleError or BackendError for a bundle that `make_bundle` did not write.
    """
    codec = FeatureCodec.load(state / "features.npz")
    out.mkdir(parents=True, exist_ok=True)
    files = []
    with open_bundle(folder, compiled=False) as bundle:
        average = torch.from_numpy(bundle.latent_avg[0].copy())
        for style in bundle.styles:
            files.append(out / f"generator-{style}.pt")
            torch.save({"g_ema": generator_state(bundle, style), "latent_avg": average}, files[-1])
        if bundle.manifest.encoder is not None:
            files.append(out / "encoder.pt")
            encoder = encoder_of(bundle, codec)
            torch.save({"settings": encoder.settings, "encoder": encoder.state_dict()}, files[-1])
    for kept in sorted(state.iterdir()):
        files.append(out / kept.name)
        shutil.copyfile(kept, files[-1])
    return files


def encoder_of(bundle: Bundle, codec: FeatureCodec) -> Encoder:
    """The bundle's encoder, in evaluation mode, computing what the stored network computes.

    Normalization was folded into the convolutions before it. It comes back with the statistics of pictures that the bundle's own
    generator draws, and with the scale and shift that undo them, so that both evaluation and further training begin where
    the encoder stood.
    """
    stored = _stored(bundle.path / bundle.manifest.networks["encoder"].file)
    encoder = Encoder(
        bundle.crop_size, codec.columns("motion"), codec.count, bundle.n_styles, bundle.w_dim, *_trunk_shape(stored),
        points=len(stored["landmark_mean"]) // 3, thumbnail=_thumbnail(stored),
        backdrop=stored["backdrop_columns"].argmax(1).tolist() if "backdrop_columns" in stored else (),
    )  # fmt: skip
    state = encoder.state_dict()
    shifts = {name.removesuffix(".weight_bias"): value for name, value in stored.items() if name.endswith(".weight_bias")}
    state.update({name: torch.from_numpy(value) for name, value in stored.items() if name in state})
    encoder.load_state_dict(state)
    pictures = torch.from_numpy(np.clip(bundle.synthesize(_codes(bundle)), -1, 1))
    _unfold(encoder.eval(), shifts, pictures)
    return encoder


def _stored(path: Path) -> dict[str, np.ndarray]:
    """The encoder's own constants, float32, as its module names them; `*.weight_bias` is what folding had added."""
    constants = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    return {
        name.removesuffix(_HALF).removeprefix(_PREFIX): value.astype(np.float32)
        for name, value in constants.items()
        if name.startswith(_PREFIX)
    }


def _trunk_shape(stored: dict[str, np.ndarray]) -> tuple[list[int], list[int]]:
    """Widths and depths of the trunk: a stage begins with a plain convolution, then come its residual blocks."""
    widths: list[int] = []
    depths: list[int] = []
    for i in range(len(stored)):
        if f"trunk.{i}.0.weight" in stored:
            widths.append(len(stored[f"trunk.{i}.0.weight"]))
            depths.append(0)
        elif f"trunk.{i}.body.1.weight" in stored:
            depths[-1] += 1
    return widths, depths


def _thumbnail(stored: dict[str, np.ndarray]) -> int:
    return round((stored["colors.0.weight"].shape[1] / 3) ** 0.5) if "colors.0.weight" in stored else 0


def _codes(bundle: Bundle, people: int = 64) -> np.ndarray:
    """Some people, [n, n_styles, w_dim]."""
    z = np.random.default_rng(3).standard_normal((people, bundle.manifest.z_dim)).astype(np.float32)
    return np.repeat(bundle.map(z)[:, None], bundle.n_styles, axis=1)


@torch.no_grad()
def _unfold(encoder: Encoder, shifts: dict[str, np.ndarray], pictures: Tensor) -> None:
    """Set every normalization from what comes out of the convolution before it, first to last."""
    pairs: dict[nn.Module, tuple[nn.BatchNorm2d, Tensor]] = {}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            pairs[module[0]] = module[1], torch.from_numpy(shifts[f"{name}.0"])
        elif isinstance(module, Residual):
            pairs[module.body[1]] = module.norm, torch.from_numpy(shifts[f"{name}.body.1"])

    def observe(convolution: nn.Module, _: object, maps: Tensor) -> None:
        norm, shift = pairs[convolution]
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + shift)

    hooks = [convolution.register_forward_hook(observe) for convolution in pairs]
    encoder(pictures, torch.zeros(len(pictures), len(encoder.landmark_mean) // 3, 3))
    for hook in hooks:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.from_bundle", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"))
    parser.add_argument("--state", type=Path, default=STATE, help="features.npz, and what else is to go along")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for path in from_bundle(arguments.bundle, arguments.out, arguments.state):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
