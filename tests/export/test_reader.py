"""Bundles are read back into modules that learn, and written again: the exporter's inverse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from doppelgan.export import Mapping, Synthesis
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.reader import SynthesisFile, generator_state, mapping_state
from doppelgan.export.networks.stylegan2 import GeneratorWeights, from_nvidia, from_rosinality
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.errors import BackendError, BundleError
from onnx import TensorProto, helper, numpy_helper

from . import seeds

LAYOUTS = ("rosinality", "nvidia", "clamped")


def weights_of(layout: str) -> GeneratorWeights:
    if layout == "rosinality":
        return from_rosinality(TensorTable(seeds.rosinality(), "", "tiny"))
    clamped = {"synthesis.b8.conv1": {"conv_clamp": 0.6}, "synthesis.b16.torgb": {"conv_clamp": 0.1}}
    return from_nvidia(TensorTable(seeds.nvidia(), "", "tiny"), clamped if layout == "clamped" else {})


@pytest.fixture(scope="module", params=LAYOUTS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator as the exporter writes it."""
    weights = weights_of(request.param)
    data = to_onnx(Synthesis(weights), {"codes": torch.zeros(1, weights.n_styles, weights.w_dim)}, ["image"])
    path = tmp_path_factory.mktemp(request.param) / "synthesis.onnx"
    path.write_bytes(data)
    return path


def some_codes(file: SynthesisFile, seed: int = 3) -> torch.Tensor:
    shape = (1, file.network.rows, file.network.w_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def drawn_by_onnx(data: bytes, codes: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: codes.numpy()})[0]


def drawn_by(module: torch.nn.Module, codes: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return module(codes).numpy()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def halved(data: bytes) -> bytes:
    """With convolution weights stored in float16 and cast, as the embedded bundle has them."""
    model = onnx.load_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.dims[-1] == 3:
            array, name = numpy_helper.to_array(tensor), tensor.name
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    return bytes(model.SerializeToString())


def test_the_module_draws_what_the_file_draws(path: Path) -> None:
    file = SynthesisFile(path)
    codes = some_codes(file)
    assert distance(drawn_by(file.module(), codes), drawn_by_onnx(file.data, codes)) < 1e-5


def test_an_unchanged_module_gives_the_file_back(path: Path) -> None:
    file = SynthesisFile(path)
    codes = some_codes(file)
    again = file.rewritten(file.module())
    assert len(again) == len(file.data)
    assert distance(drawn_by_onnx(again, codes), drawn_by_onnx(file.data, codes)) < 1e-6


def test_a_changed_module_is_what_the_rewritten_file_draws(path: Path) -> None:
    file = SynthesisFile(path)
    module, codes = file.module(), some_codes(file)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=random)
    again = file.rewritten(module)
    assert distance(drawn_by_onnx(again, codes), drawn_by(module, codes)) < 1e-5
    assert distance(drawn_by_onnx(again, codes), drawn_by_onnx(file.data, codes)) > 0.05


def test_constants_stored_in_half_stay_so(path: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(halved(path.read_bytes()))
    file = SynthesisFile(half)
    module, codes = file.module(), some_codes(file)
    with torch.no_grad():
        module.convs[0].conv.weight *= 1.1  # type: ignore[operator, union-attr]
        module.convs[0].activate.bias += 0.2  # type: ignore[operator, union-attr]
    again = file.rewritten(module)
    assert len(again) == len(file.data) < len(path.read_bytes())
    assert distance(drawn_by_onnx(again, codes), drawn_by(module, codes)) < 2e-3


def test_a_mapping_network_is_read_back(tmp_path: Path) -> None:
    checkpoint = seeds.rosinality()
    weights = from_rosinality(TensorTable(checkpoint, "", "tiny"))
    path = tmp_path / "mapping.onnx"
    path.write_bytes(to_onnx(Mapping(weights), {"z": torch.ones(1, weights.z_dim)}, ["w"]))
    state = mapping_state(path)
    assert sorted(state) == ["1.bias", "1.weight", "2.bias", "2.weight"]
    for name, value in state.items():
        torch.testing.assert_close(value, checkpoint[f"style.{name}"], rtol=1e-5, atol=1e-5)


def test_a_bundles_generator_is_a_checkpoint_again() -> None:
    """The exporter reads the state dict and arrives at the network that it came from."""
    with open_bundle("demo", backend="onnxruntime") as bundle:
        weights = from_rosinality(TensorTable(generator_state(bundle, "toon"), "", "demo"))
        codes = bundle.latent["samples"][:1]
        again = drawn_by(Synthesis(weights), torch.from_numpy(codes))
        assert distance(again, bundle.synthesize(codes, "toon")) < 2e-3  # demodulation is stored in float16
        z = np.random.default_rng(0).standard_normal((1, weights.z_dim)).astype(np.float32)
        assert distance(drawn_by(Mapping(weights), torch.from_numpy(z)), bundle.map(z)) < 1e-4
        with pytest.raises(BundleError, match="photo, toon"):
            generator_state(bundle, "oil")


def test_another_network_is_refused() -> None:
    with open_bundle("demo") as bundle:
        with pytest.raises(BackendError, match="StyleGAN2 synthesis"):
            SynthesisFile(bundle.path / "detector.onnx")
        with pytest.raises(BackendError, match="mapping network"):
            mapping_state(bundle.path / "detector.onnx")
