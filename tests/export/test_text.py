"""StyleCLIP's global directions: a small matrix, a small text encoder, and a generator of two resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from doppelgan.export.directions import collect_directions, style_layers
from doppelgan.export.networks.stylegan2 import GeneratorWeights
from doppelgan.export.text import TextSpec, parse_text_spec, read_text_encoder, text_direction
from doppelgan.runtime.errors import EditError
from onnx import TensorProto, helper, numpy_helper

from .test_directions import CHANNELS, weights

__all__ = ["weights"]
D = 4
CONV_CHANNELS, ALL_CHANNELS = 3 * CHANNELS, 5 * CHANNELS
WORDS = ["<pad>", "a", "photo", "portrait", "of", "good", "close-up", "face", "old"]


def encoder(texts: Sequence[str]) -> np.ndarray:
    """Old texts point along the first axis, others along the second."""
    return np.array([[5.0, 1, 0, 0] if "old" in text else [0, 1, 0, 0] for text in texts])


def matrix(rows: int) -> np.ndarray:
    answers = np.zeros((rows, D))
    for row, answer in ((2, 0.4), (7, -0.2), (9, 0.05)):
        answers[row % rows, 0] = answer
    answers[:, 3] = 9  # of something else
    return answers


def spec(tmp_path: Path, rows: int, **changes: object) -> TextSpec:
    np.save(tmp_path / "fs3.npy", matrix(rows))
    known = {"name": "older", "matrix": tmp_path / "fs3.npy", "folder": tmp_path, "neutral": "face"}
    return TextSpec(**{**known, "target": "old face", **changes})  # type: ignore[arg-type]


def test_channels_that_answer_the_text_change_by_their_spread(
    weights: GeneratorWeights, tmp_path: Path
) -> None:
    layers = style_layers(weights)
    edit = text_direction(spec(tmp_path, CONV_CHANNELS), weights, layers, encoder)
    # Rows are channels of convolutions alone: layer 1 and 4 are to_rgb.
    assert [(layer, channel) for layer, channel, _ in edit.changes] == [(0, 2), (2, 2)]
    strong, weak = (value for *_, value in edit.changes)
    assert strong > 0 > weak
    pure = text_direction(spec(tmp_path, CONV_CHANNELS, beta=0.3), weights, layers, encoder)
    assert [value for *_, value in pure.changes] == [pytest.approx(strong)]
    assert (
        len(text_direction(spec(tmp_path, CONV_CHANNELS, beta=0.01), weights, layers, encoder).changes) == 3
    )


def test_a_matrix_may_have_the_channels_of_to_rgb_too(weights: GeneratorWeights, tmp_path: Path) -> None:
    edit = text_direction(spec(tmp_path, ALL_CHANNELS), weights, style_layers(weights), encoder)
    assert [(layer, channel) for layer, channel, _ in edit.changes] == [(0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (7, {}, r"expected 15 rows.* or 25 with those of to_rgb, got 7"),
        (CONV_CHANNELS, {"target": "face"}, "two texts that mean different things"),
        (CONV_CHANNELS, {"beta": 2.0}, "say a smaller BETA"),
        (CONV_CHANNELS, {"matrix": Path("no-such.npy")}, r"no-such\.npy"),
    ],
)
def test_what_does_not_fit_is_refused(
    weights: GeneratorWeights, tmp_path: Path, rows: int, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EditError, match=message):
        text_direction(spec(tmp_path, rows, **changes), weights, style_layers(weights), encoder)


def test_what_is_asked_for_in_one_text(tmp_path: Path) -> None:
    asked = parse_text_spec("older=m/fs3.npy@clip:a face>an old face:0.15")
    assert asked == TextSpec("older", Path("m/fs3.npy"), Path("clip"), "a face", "an old face", 0.15)
    unnamed = parse_text_spec("fs3.npy@clip:a face>an old face")
    assert unnamed is not None
    assert (unnamed.name, unnamed.beta) == ("an_old_face", 0.1)
    assert parse_text_spec("age.pt") is None
    assert parse_text_spec("sefa:3") is None


def small_clip(folder: Path, length: int | str) -> None:
    """A text encoder whose vector is the mean of its words' vectors, and its tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")
    table = np.zeros((len(WORDS), D), np.float32)
    table[:, 1] = 0.2
    table[WORDS.index("old"), 0] = 5
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["words"]),
            helper.make_node("ReduceMean", ["words"], ["text_embeds"], axes=[1], keepdims=0),
        ],
        "text",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", length])],
        [helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["n", D])],
        [numpy_helper.from_array(table, "table")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "text_model.onnx")
    words = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("length", [12, "tokens"])
def test_from_files_to_a_direction(weights: GeneratorWeights, tmp_path: Path, length: int | str) -> None:
    small_clip(tmp_path, length)
    np.save(tmp_path / "fs3.npy", matrix(CONV_CHANNELS))
    text = f"older={tmp_path / 'fs3.npy'}@{tmp_path}:face>old face"
    (direction,) = collect_directions([text], weights)
    assert direction.name == "older"
    assert direction.offset[0].any()
    assert not direction.offset[2].any()
    assert "StyleSpace edit carried over" in direction.note


def test_a_folder_without_its_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(EditError, match=r"got no text_model\.onnx"):
        read_text_encoder(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(EditError, match=r"got no tokenizer\.json"):
        read_text_encoder(tmp_path)
