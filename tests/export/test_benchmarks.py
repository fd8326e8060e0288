"""What the comparisons rest on: the slow side computes the same picture, and work is counted right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from onnx import helper

from benchmarks.common import Row, check, speedup, table, time_rows
from benchmarks.counting import count
from benchmarks.original_stylegan2 import OriginalSynthesis
from benchmarks.roofline import DEVICES, REACHED, project

from .. import tiny
from . import reference_stylegan2, seeds


def test_the_original_formulation_paints_the_same_picture() -> None:
    state = seeds.rosinality()
    codes = seeds.fill("codes", (2, 6, 16))
    with torch.inference_mode():
        got = OriginalSynthesis(state)(codes)
    want = reference_stylegan2.rosinality_synthesis(state, codes)
    assert float((got - want).norm() / want.norm()) < 1e-5


def test_multiply_adds_and_bytes_are_those_of_the_shapes() -> None:
    data = tiny.model(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("ConvTranspose", ["y", "v"], ["z"], strides=[2, 2]),
        ],
        {"x": [1, 2, 5, 5]},
        {"z": [1, 4, 11, 11]},
        {"w": np.zeros((3, 2, 3, 3), np.float32), "v": np.zeros((3, 4, 3, 3), np.float32)},
    )
    conv, transposed = count(GraphEditor(data)).layers
    assert conv.multiply_adds == 3 * 2 * 9 * 25
    assert transposed.multiply_adds == 3 * 4 * 9 * 25
    assert conv.weight_bytes == 4 * 3 * 2 * 9
    assert transposed.activation_bytes == 4 * (3 * 25 + 4 * 121)


def test_a_projection_is_the_slower_of_arithmetic_and_memory() -> None:
    data = tiny.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": [4096, 4096]}, {"y": [4096, 4096]}, {"w": np.zeros((4096, 4096), np.float32)},
    )  # fmt: skip
    nano = DEVICES[0]
    assert project(count(GraphEditor(data)), nano) == pytest.approx(
        1e3 * 2 * 4096**3 / (REACHED * nano.half_tflops * 1e12)
    )


def test_rows_are_checked_against_the_first_and_compared_round_by_round() -> None:
    rows = [Row("a", lambda i: np.ones((1, 2, 3))), Row("b", lambda i: np.full((1, 2, 3), 1.5))]
    check(rows, 2, image=False)
    assert [row.drift.relative_l2 for row in rows if row.drift] == [0, 0.5]
    time_rows(rows, rounds=3)
    assert [len(row.times_ms) for row in rows] == [3, 3]
    rows[0].times_ms, rows[1].times_ms = (2.0, 8.0, 6.0), (1.0, 2.0, 6.0)
    assert speedup(rows[0], rows[1]) == 2.0
    assert "| b | 2.0 | 1.0 | 6.0 | 2.00 |" in table(rows, rows[:1])
