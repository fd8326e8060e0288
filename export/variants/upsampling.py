"""Up-sampling convolutions as one ordinary convolution each: for engines with tensor cores.

StyleGAN2 doubles a map by a transposed convolution (3x3, stride 2) and a 4x4 FIR per channel. Together they
are one 6x6 kernel, of which every second row and column meets a pixel of the input: each of the four phases
of the output (even and odd rows and columns) is a 3x3 convolution of the input. All four at once are one
convolution with four times the outputs, whose channels are then laid out as pixels (DepthToSpace).

That is four times the arithmetic of the transposed convolution, of the kind that tensor cores do best, and
neither a transposed convolution nor one per channel, for which libraries have slow kernels in half
precision. CPUs do not profit.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..onnx_files.graph_edit import Array, GraphEditor, attribute, is_dense_convolution

SIDE, TAPS = 3, 4  # of the two kernels that are merged


def by_phases(
    data: bytes,  # ONNX, float32 or float16
) -> bytes:
    """The same network with every such pair merged; ``data`` itself if there is none."""
    graph = GraphEditor(data)
    pairs = [(up, fir) for up in graph.nodes if (fir := _fir_after(graph, up)) is not None]
    for up, fir in pairs:
        _merge(graph, up, fir)
    return graph.data() if pairs else data


def _fir_after(graph: GraphEditor, up: onnx.NodeProto) -> onnx.NodeProto | None:
    """The FIR behind a transposed convolution, if both are exactly the ones that can be merged."""
    if up.op_type != "ConvTranspose" or not is_dense_convolution(graph, up) or len(up.input) != 2:
        return None
    fir = graph.only_reader(up.output[0])
    if fir is None or fir.op_type != "Conv" or fir.input[1] not in graph.constants or len(fir.input) != 2:
        return None
    outputs = graph.shapes[up.input[1]][1]
    fits = (
        graph.shapes[up.input[1]][2:] == (SIDE, SIDE)
        and graph.shapes[fir.input[1]] == (outputs, 1, TAPS, TAPS)
        and attribute(fir, "group", 1) == outputs
        and _plain(up, strides=[2, 2], pads=[0, 0, 0, 0])
        and _plain(fir, strides=[1, 1], pads=[1, 1, 1, 1])
        and not any(attribute(up, "output_padding", [0, 0]))
        and not attribute(up, "output_shape", [])
    )
    return fir if fits else None


def _plain(node: onnx.NodeProto, strides: list[int], pads: list[int]) -> bool:
    """No dilation, no automatic padding, and these strides and pads."""
    return (
        list(attribute(node, "strides", [1, 1])) == strides
        and list(attribute(node, "pads", [0, 0, 0, 0])) == pads
        and list(attribute(node, "dilations", [1, 1])) == [1, 1]
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
    )


def _merge(graph: GraphEditor, up: onnx.NodeProto, fir: onnx.NodeProto) -> None:
    weight, taps = graph.constants[up.input[1]], graph.constants[fir.input[1]]
    merged = graph.constant(merged_kernel(weight, taps), "merged_weight")
    n, outputs, height, width = graph.shapes[fir.output[0]]
    small = (n, 4 * outputs, height // 2, width // 2)
    phases = graph.node(
        "Conv", [up.input[0], merged], "phases", small, graph.types[fir.output[0]], pads=[1, 1, 1, 1]
    )
    laid_out = onnx.helper.make_node(
        "DepthToSpace", [phases], [fir.output[0]], name=f"{fir.output[0]}.laid_out", blocksize=2, mode="DCR"
    )
    graph.nodes[graph.nodes.index(fir)] = laid_out
    graph.nodes.remove(up)
    graph.refresh()


def merged_kernel(
    weight: Array,  # [I, O, 3, 3] of the transposed convolution
    taps: Array,  # [O, 1, 4, 4] of the FIR
) -> Array:
    """[4 O, I, 3, 3] in the type of ``weight``: phases (even, even), (even, odd), (odd, even), (odd, odd).

    A pixel m of the input reaches pixel 2 m + k of the doubled map, and from there 2 m + k - j + 1 of the
    result, for taps k and j: together ``joint[k - j + 3]``.
    """
    inputs, outputs = weight.shape[:2]
    w, f = weight.astype(np.float64), taps.astype(np.float64)
    joint = np.zeros((outputs, inputs, SIDE + TAPS - 1, SIDE + TAPS - 1))
    for k in range(SIDE):
        for across in range(SIDE):
            share = w[:, :, k, across].T[:, :, None, None] * f[:, :, ::-1, ::-1]
            joint[:, :, k : k + TAPS, across : across + TAPS] += share
    rows = {
        0: [4, 2, 0],
        1: [5, 3, 1],
    }  # of the joint kernel, for input pixels a - 1, a, a + 1 of output 2 a + phase
    phases = [joint[:, :, rows[p]][:, :, :, rows[q]] for p in (0, 1) for q in (0, 1)]
    return np.concatenate(phases).astype(weight.dtype)
