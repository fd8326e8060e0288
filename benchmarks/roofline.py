"""How near to the machine's own limit: measured ceilings, counted work, percent reached, projections.

    python -m benchmarks.roofline [--size 1024] [--rounds 7] [--threads 2] [--output page.md]

The ceiling of a precision is the best rate of a large matrix product in the same engine and precision on this
machine, measured in turns with the networks. Winograd convolutions need fewer operations than are counted, so
more than 100 % is possible. The native synthesis has no product of its own: its ceiling in float32 is the
fastest of the others', and in int16 the int8 product's, which is at least as fast. Projections for named
devices use the same counts with published peak rates and bandwidths; they are arithmetic, not measurements.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import Synthesis, from_rosinality
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants import int8
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.backends.native import session as native
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure.autotune import usable_backends
from onnx import TensorProto, helper, numpy_helper

from .common import Row, header, publish, time_rows
from .counting import Count, count
from .stylegan2_1024 import generator_state

SIDE = 1536  # of the measured matrix products
ROWS = 4096
REACHED = 0.4  # share of a GPU's peak that such networks are assumed to reach
BANDWIDTH_REACHED = 0.7


@dataclass(frozen=True)
class Device:
    """Published figures: dense float16 tensor rate with float32 accumulation, and memory bandwidth."""

    name: str
    half_tflops: float
    gb_s: float


DEVICES = (
    Device("Jetson Orin Nano 8 GB", 10, 68),
    Device("Jetson Orin NX 16 GB", 15, 102),
    Device("Jetson AGX Orin 64 GB", 42, 205),
    Device("RTX 3060", 25, 360),
    Device("RTX 4090", 165, 1008),
)


def product(quantized: bool) -> bytes:
    """[ROWS, SIDE] x [SIDE, SIDE] as a 1x1 convolution, so that both engines take their best path for it."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(SIDE, SIDE, 1, 1)).astype(np.float32)
    shape = [1, SIDE, 64, ROWS // 64]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    data = bytes(model.SerializeToString())
    if not quantized:
        return data
    return int8.to_int8(
        data, {"x": int8.Scale(8 / 255, 128)}, weight_bits=7 if this_machine().int8_saturates else 8
    )


def project(counted: Count, device: Device) -> float:
    """Milliseconds of one run in float16: each layer takes the slower of arithmetic and memory."""
    total_s = 0.0
    for layer in counted.layers:
        arithmetic_s = 2 * layer.multiply_adds / (REACHED * device.half_tflops * 1e12)
        memory_s = (layer.weight_bytes + layer.activation_bytes) / 2 / (BANDWIDTH_REACHED * device.gb_s * 1e9)
        total_s += max(arithmetic_s, memory_s)
    return 1e3 * total_s


def projections(names: Sequence[str], counts: Sequence[Count]) -> list[str]:
    lines = ["| device (projected) | " + " | ".join(f"{name}, ms" for name in names) + " |"]
    lines.append("|---" + "|--:" * len(names) + "|")
    for device in DEVICES:
        cells = [f"{project(counted, device):.1f}" for counted in counts]
        lines.append(f"| {device.name} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=this_machine().cores)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    weights = from_rosinality(TensorTable(generator_state(options.size), "generator", "seeded fill"))
    codes = 0.5 * torch.randn(1, weights.n_styles, 512, generator=torch.Generator().manual_seed(0))
    data = to_onnx(Synthesis(weights).eval(), {"codes": codes}, ["image"])
    feeds = {"codes": codes.numpy()}
    quantized = int8.to_int8(
        data, int8.calibrate(data, [feeds]), weight_bits=7 if this_machine().int8_saturates else 8
    )
    counted = count(GraphEditor(data))
    x = np.random.default_rng(1).normal(size=(1, SIDE, 64, ROWS // 64)).astype(np.float32)

    rows: list[Row] = []
    operations: list[float] = []
    pairs: list[tuple[str, list[int], int]] = []  # label, rows of possible ceilings, row of the network
    with tempfile.TemporaryDirectory() as folder:

        def add(
            label: str,
            content: bytes,
            backend: str,
            name: str,
            value: np.ndarray,
            work: float,
            **settings: str,
        ) -> int:
            path = Path(folder) / f"{len(rows)}.onnx"
            path.write_bytes(content)
            session = open_session(path, backend=backend, threads=options.threads, **settings)
            out = {s.name: np.empty(s.shape, s.dtype) for s in session.outputs}
            rows.append(Row(label, lambda i: next(iter(session.run({name: value}, out).values()))))
            operations.append(work)
            return len(rows) - 1

        gemm = 2.0 * ROWS * SIDE * SIDE
        products = [
            add(f"{backend} float32 product", product(False), backend, "x", x, gemm)
            for backend in usable_backends()
            if backend != "native"
        ]
        for backend in usable_backends():
            network = add(
                f"{backend} float32 generator",
                data,
                backend,
                "codes",
                feeds["codes"],
                2 * counted.multiply_adds,
            )
            own = [i for i in products if rows[i].label.startswith(backend)]
            pairs.append((f"{backend} float32", own or products, network))
        if "openvino" in usable_backends():
            ceiling = add("openvino int8 product", product(True), "openvino", "x", x, gemm)
            network = add(
                "openvino int8 generator",
                quantized,
                "openvino",
                "codes",
                feeds["codes"],
                2 * counted.multiply_adds,
            )
            pairs.append(("openvino int8", [ceiling], network))
            if "native" in usable_backends() and "int16" in native.precisions():
                network = add(
                    "native int16 generator",
                    data,
                    "native",
                    "codes",
                    feeds["codes"],
                    2 * counted.multiply_adds,
                    precision="int16",
                )
                pairs.append(("native int16, against the int8 product", [ceiling], network))
        time_rows(rows, options.rounds)

    rates = [work / (1e6 * min(row.times_ms)) for work, row in zip(operations, rows, strict=True)]
    lines = [
        "| engine and precision | ceiling GFLOP/s | generator GFLOP/s | reached | generator ms |",
        "|---|--:|--:|--:|--:|",
    ]
    for label, ceilings, n in pairs:
        ceiling_rate = max(rates[i] for i in ceilings)
        lines.append(
            f"| {label} | {ceiling_rate:.0f} | {rates[n]:.0f} | {rates[n] / ceiling_rate:.0%} | "
            f"{min(rows[n].times_ms):.0f} |"
        )
    top = sorted(counted.layers, key=lambda layer: -layer.multiply_adds)[:6]
    command = f"python -m benchmarks.roofline --size {options.size} --rounds {options.rounds}"
    page = [
        header(f"Roofline, StyleGAN2 config-f {options.size} px, {options.threads} threads", command),
        f"Counted from the graph: {2 * counted.multiply_adds / 1e9:.1f} GFLOP, "
        f"{counted.weight_bytes / 1e6:.0f} MB of weights, "
        f"{counted.activation_bytes / 1e6:.0f} MB of activations "
        f"read and written in float32. Best of {options.rounds} rounds.\n",
        *lines,
        "",
        "Largest layers: " + ", ".join(f"{x.op} {2 * x.multiply_adds / 1e9:.1f} GFLOP" for x in top) + ".",
        "",
        f"Projected from the same counts in float16, assuming {REACHED:.0%} of the published dense rate and "
        f"{BANDWIDTH_REACHED:.0%} of the bandwidth. **Projections, not measurements.**",
        "",
        *projections([f"generator {options.size} px"], [counted]),
    ]
    publish("\n".join(page), options.output)


if __name__ == "__main__":
    main()
