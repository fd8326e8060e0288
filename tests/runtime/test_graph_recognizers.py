"""What the recognizers accept is what ONNX Runtime computes: every single change is refused or followed."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.encoders import CROP_SIZE, Encoder
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.runtime.backends import installed, open_session
from doppelgan.runtime.backends.native import onnx_file
from doppelgan.runtime.backends.native.graph_reader import DEFAULTS, OPSET
from doppelgan.runtime.errors import BackendError
from onnx import defs, helper

from ..export import seeds
from ..once import once
from .mutants import mutants, new_kinds

if not installed("native"):
    pytest.skip("the compiled kernels are missing, or the processor has no AVX2", allow_module_level=True)

from .test_native_encoder import exported as exported_encoder
from .test_native_synthesis import exported

TOLERANCE = 1e-4  # relative L2: other order of sums, and Winograd's
# Channels that equal a side of their map or the number of colors: broadcasting hides nothing there.
CHANNELS = {4: 3, 8: 8, 16: 4}


@once
def synthesis() -> bytes:
    return exported(seeds.nvidia(CHANNELS), "nvidia", 0.5)


@once
def encoder() -> bytes:
    """With few channels: hundreds of its twins are run."""
    state = seeds.encoder("Encoder4Editing", 4, 9, (5, 5, 6, 7, 8))
    average = seeds.fill("latent_avg", (4, 9), 0.01)
    module = Encoder(TensorTable(state, "encoder", "seeds"), "Encoder4Editing", 4, 9, average).eval()
    return to_onnx(module, {"crop": torch.zeros(1, 3, CROP_SIZE, CROP_SIZE)}, ["codes"])


@pytest.fixture
def parts_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change leaves all nodes and constants but one as they were, and there are thousands of changes."""
    for name in ("_node", "_tensor"):
        read = cache(getattr(onnx_file, name))
        monkeypatch.setattr(onnx_file, name, lambda data, read=read: read(bytes(data)))


def outcome(path: Path, data: bytes) -> str:
    """ "refused", "same" or what went wrong."""
    path.unlink(missing_ok=True)  # a file that is written over is flushed, which takes milliseconds
    path.write_bytes(data)
    try:
        ours = open_session(path, backend="native", threads=1)
    except BackendError:
        return "refused"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        reference = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        (given,) = ours.inputs
        feeds = {given.name: np.random.default_rng(1).normal(size=given.shape).astype(np.float32)}
        (want,) = reference.run(None, feeds)
        (got,) = ours.run(feeds).values()
        if got.shape != want.shape:
            return f"another shape: {got.shape}, not {want.shape}"
        off = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-30)
        if np.isfinite(want).all() and not off < TOLERANCE:
            return f"another result: off by {off:.2g}"
    except Exception as error:  # ONNX Runtime raises many unrelated types
        return f"ONNX Runtime does not run it: {str(error).splitlines()[0][:150]}"
    return "same"


def judge(data: bytes, path: Path, nodes: set[int] | None = None) -> Counter[str]:
    assert outcome(path, data) == "same"
    wrong, outcomes = [], Counter[str]()
    for what, mutant in mutants(onnx.load_from_string(data), nodes):
        result = outcome(path, mutant.SerializeToString())
        outcomes[result if result in ("same", "refused") else "wrong"] += 1
        if result not in ("same", "refused"):
            wrong.append(f"{what}: {result}")
    assert not wrong, "\n".join(wrong)
    return outcomes


@pytest.mark.usefixtures("parts_are_read_once")
def test_a_synthesis_with_one_thing_changed(tmp_path: Path) -> None:
    outcomes = judge(synthesis(), tmp_path / "synthesis.onnx")
    assert outcomes["refused"] > 1500
    assert outcomes["same"] > 100  # other weights, and defaults that are spelled out or not


@pytest.mark.usefixtures("parts_are_read_once")
def test_encoders_with_one_thing_changed(tmp_path: Path) -> None:
    known: set[str] = set()
    outcomes = Counter[str]()
    others = map(exported_encoder, ("SingleStyleCodeEncoder", "ResNetGradualStyleEncoder"))
    for data in (encoder(), *others):
        outcomes += judge(data, tmp_path / "encoder.onnx", new_kinds(onnx.load_from_string(data), known))
    assert outcomes["refused"] > 600
    assert outcomes["same"] > 100


@pytest.mark.parametrize("op", DEFAULTS)
def test_the_table_of_defaults_is_the_standards(op: str) -> None:
    for name, attribute in defs.get_schema(op, OPSET).attributes.items():
        stated = attribute.default_value
        default = helper.get_attribute_value(stated) if stated.name else None
        if isinstance(default, bytes):
            default = default.decode()
        ours = DEFAULTS[op][name]
        # Lists as long as there are axes have no default in the table of the standard, but in its words.
        in_words = {"dilations": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "output_padding": [0, 0]}
        assert ours == pytest.approx(default if stated.name else in_words.get(name)), name
    assert DEFAULTS[op].keys() == defs.get_schema(op, OPSET).attributes.keys()


def test_operators_of_another_version_or_make_are_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "synthesis.onnx", onnx.load_from_string(synthesis())
    for version in (13, 17, 19):
        model.opset_import[0].version = version
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BackendError, match=f"operators of version 18, got {version}"):
            open_session(path, backend="native")
    del model.opset_import[:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match="operators of version 18, got none"):
        open_session(path, backend="native")
    model.opset_import.extend([helper.make_opsetid("com.example", 18), helper.make_opsetid("", 18)])
    model.graph.node[5].domain = "com.example"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"standard's operators, got com\.example\.\w+"):
        open_session(path, backend="native")
    model.graph.node[5].domain = "ai.onnx"
    path.write_bytes(model.SerializeToString())
    open_session(path, backend="native")
