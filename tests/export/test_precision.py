"""Cheaper variants: half precision that cannot overflow, int8 that stays close, refusal with the figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import Synthesis, from_rosinality
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants import int8
from doppelgan.export.variants.fp16 import rounding_twin, to_float16
from doppelgan.export.variants.precision import Feeds, layer_operations, make_variant
from doppelgan.runtime.drift import Bound, measure
from doppelgan.runtime.errors import ParityError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .. import tiny
from . import seeds

N_STYLES, W_DIM = 6, 16
LOUD = (
    3000.0  # strength of the styles: at the usual spread float16 still holds them, at three times it does not
)


def generator(loud: float = 1.0) -> bytes:
    """A 16-px StyleGAN2 as ONNX; ``loud`` multiplies the part of its convolutions' styles that varies."""
    state = seeds.rosinality()
    for key in state:
        if key.endswith("conv.modulation.weight") and "to_rgb" not in key:
            state[key] = state[key] * loud
        if "to_rgb" in key and key.endswith("conv.weight"):
            state[key] = state[key] * 0.1  # pictures of about -1..1
    module = Synthesis(from_rosinality(TensorTable(state, "generator", "tiny.pt"))).eval()
    return to_onnx(module, {"codes": torch.zeros(1, N_STYLES, W_DIM)}, ["image"])


@pytest.fixture(scope="module")
def plain() -> bytes:
    return generator()


@pytest.fixture(scope="module")
def loud() -> bytes:
    return generator(LOUD)


def codes(count: int, spread: float = 1.0, seed: int = 0) -> list[Feeds]:
    rows = np.random.default_rng(seed).normal(size=(count, 1, N_STYLES, W_DIM)) * spread
    return [{"codes": row.astype(np.float32)} for row in rows]


def run(data: bytes, samples: Sequence[Feeds]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return [session.run(None, dict(feeds))[0] for feeds in samples]


class TestFloat16:
    def test_three_times_the_usual_spread_breaks_a_naive_conversion_and_not_ours(self, loud: bytes) -> None:
        usual, wide = codes(8), codes(8, spread=3.0)
        naive = rounding_twin(to_float16(loud, naive=True))
        assert all(np.isfinite(image).all() for image in run(naive, usual))
        assert not all(np.isfinite(image).all() for image in run(naive, wide))
        ours = rounding_twin(to_float16(loud))
        for samples in (usual, wide):
            drift = measure(run(loud, samples), run(ours, samples), image=True)
            assert drift.psnr_db is not None
            assert drift.psnr_db > 45
        # Far outside of anything a picture comes from: still numbers, and the right ones.
        absurd = codes(4, spread=1000.0)
        assert measure(run(loud, absurd), run(ours, absurd), image=True).relative_l2 < 2e-3

    def test_a_style_of_zeros_is_no_division_by_zero(self, plain: bytes) -> None:
        model = onnx.load_model_from_string(plain)
        for tensor in model.graph.initializer:
            if tensor.name.startswith("affine_"):
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
        data = model.SerializeToString()
        got = run(rounding_twin(to_float16(data)), codes(1))
        assert measure(run(data, codes(1)), got, image=True).relative_l2 < 1e-2

    def test_maps_are_half_and_styles_demodulation_and_pictures_are_float(self, plain: bytes) -> None:
        model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(to_float16(plain)))
        types = {v.name: v.type.tensor_type.elem_type for v in [*model.graph.value_info, *model.graph.output]}
        made = {node.op_type: set() for node in model.graph.node}
        for node in model.graph.node:
            made[node.op_type].add(types[node.output[0]])
        assert made["Conv"] == {TensorProto.FLOAT16}
        assert made["LeakyRelu"] == made["Clip"] == {TensorProto.FLOAT16}
        for op in ("Gemm", "Sqrt", "Reciprocal", "ReduceMax", "Div"):
            assert made[op] == {TensorProto.FLOAT}
        # The up-sampling of the picture is float32, that of the maps is not.
        assert made["ConvTranspose"] == {TensorProto.FLOAT, TensorProto.FLOAT16}
        assert types["image"] == TensorProto.FLOAT
        assert {i.type.tensor_type.elem_type for i in model.graph.input} == {TensorProto.FLOAT}

    def test_the_weights_take_half_the_space(self, plain: bytes) -> None:
        stored = [
            t for t in onnx.load_model_from_string(to_float16(plain)).graph.initializer if len(t.dims) == 4
        ]
        big = [t for t in stored if t.dims[2:] == [3, 3]]
        assert len(big) == 5
        assert {t.data_type for t in big} == {TensorProto.FLOAT16}

    def test_the_twin_rounds_every_half_result(self) -> None:
        data = tiny.model(
            [helper.make_node("Mul", ["x", "c"], ["y"])],
            {"x": [1, 1, 1, 4]}, {"y": [1, 1, 1, 4]}, {"c": np.full((1, 1, 1, 1), 1 / 3, np.float32)},
        )  # fmt: skip
        x = np.array([1, 1 / 3, 100.1, 65000 * 4], np.float32).reshape(1, 1, 1, 4)
        with np.errstate(over="ignore"):
            half = x.astype(np.float16).astype(np.float32) * np.float32(np.float16(1 / 3))
            want = half.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(run(rounding_twin(to_float16(data)), [{"x": x}])[0], want)


class TestInt8:
    def test_equalizing_changes_nothing_in_float32(self, plain: bytes) -> None:
        equal = int8.equalize(plain, codes(4))
        assert equal != plain
        assert measure(run(plain, codes(4)), run(equal, codes(4)), image=True).relative_l2 < 1e-5

    def test_all_dense_convolutions_are_layers_and_filters_are_not(self, plain: bytes) -> None:
        assert len(int8.layers(plain)) == 5
        assert set(layer_operations(plain)) == set(int8.layers(plain))
        # 4x4 with 8 channels in and out; then the same 4x4 input into a doubling convolution.
        assert list(layer_operations(plain).values())[:2] == [8 * 8 * 9 * 16] * 2

    @pytest.mark.parametrize(("bits", "limit"), [(8, 127), (7, 63)])
    def test_weights_have_a_scale_per_output_channel_and_stay_in_their_bits(
        self, plain: bytes, bits: int, limit: int
    ) -> None:
        made = int8.to_int8(plain, int8.calibrate(plain, codes(2)), weight_bits=bits)
        constants = {
            t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(made).graph.initializer
        }
        weights = [a for a in constants.values() if a.dtype == np.int8 and a.ndim == 4]
        assert len(weights) == 5
        assert {int(np.abs(w.astype(int)).max()) for w in weights} == {limit}
        nodes = {n.output[0]: n for n in onnx.load_model_from_string(made).graph.node}
        found = []
        for node in nodes.values():
            if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in nodes:
                dequantize = nodes[node.input[1]]
                axis = next(a.i for a in dequantize.attribute if a.name == "axis")
                assert axis == (node.op_type == "ConvTranspose")
                found.append(constants[dequantize.input[1]].size)
        assert found == [8, 8, 8, 4, 4]

    def test_symmetric_activations_have_their_zero_at_zero(self, plain: bytes) -> None:
        made = int8.to_int8(plain, int8.calibrate(plain, codes(2)), symmetric=True)
        constants = {
            t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(made).graph.initializer
        }
        nodes = [n for n in onnx.load_model_from_string(made).graph.node if n.op_type == "QuantizeLinear"]
        assert {constants[n.input[2]].dtype for n in nodes} == {np.dtype(np.int8)}
        assert {int(constants[n.input[2]]) for n in nodes} == {0}
        assert measure(run(plain, codes(4)), run(made, codes(4)), image=True).relative_l2 < 0.1

    def test_a_variant_states_its_drift_over_all_samples(self, plain: bytes) -> None:
        samples = codes(8, seed=9)
        made = make_variant("synthesis", plain, "int8", codes(8), samples)
        assert made.drift.samples == 8
        assert made.drift == measure(run(plain, samples), run(made.onnx, samples), image=True)
        assert made.drift.psnr_db is not None
        assert made.drift.psnr_db >= 30

    def test_where_all_layers_are_too_much_some_stay_float32(self, plain: bytes) -> None:
        samples = codes(8, seed=9)
        easy = make_variant("synthesis", plain, "int8", codes(8), samples)
        assert easy.drift.psnr_db is not None
        bound = Bound(psnr_db=easy.drift.psnr_db + 4, relative_l2=1.0)
        mixed = make_variant("synthesis", plain, "int8", codes(8), samples, bound=bound)
        assert mixed.drift.within(bound)
        assert 0 < len(mixed.kept) < 5
        assert set(mixed.kept) <= set(int8.layers(plain))

    def test_transposed_convolutions_can_be_left_out(self, plain: bytes) -> None:
        made = make_variant("synthesis", plain, "int8", codes(4), codes(4, seed=9), transposed=False)
        assert len(made.kept) == 2
        nodes = onnx.load_model_from_string(made.onnx).graph.node
        restored = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear"}
        assert [
            n.input[1] in restored for n in nodes if n.op_type == "Conv" and ".fir" not in n.input[1]
        ] == [True] * 3
        assert not any(n.input[1] in restored for n in nodes if n.op_type == "ConvTranspose")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_past_its_bound_a_variant_is_refused_with_the_figure(plain: bytes, precision: str) -> None:
    with pytest.raises(ParityError, match=rf"'synthesis' in {precision}: expected .*150 dB.* got"):
        make_variant("synthesis", plain, precision, codes(2), codes(2), bound=Bound(150.0, 1e-9))


def test_a_network_without_convolutions_is_no_candidate_for_int8() -> None:
    with pytest.raises(ParityError, match="expected convolutions"):
        make_variant("mapping", tiny.mapping(), "int8", [], [{"z": np.ones((1, tiny.Z_DIM), np.float32)}])
