"""StyleGAN2 config-f at 1024 px, one picture: the original in PyTorch, its plain export, and ours.

    python -m benchmarks.stylegan2_1024 [--size 1024] [--rounds 7] [--threads 2] [--output page.md]

Weights are a seeded fill of the real shapes, scaled so that pictures stay about -1..1: speed does not depend
on what they are, and drift is measured on the same fill. Every row is compared with the original first;
then all are timed in turns, and each speed-up is the median over rounds of a ratio within one round.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.stylegan2 import Mapping, Synthesis, from_rosinality
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants.precision import make_variant
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.errors import ParityError
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure.autotune import usable_backends
from torch import Tensor

from tests.export import seeds

from .common import Row, check, header, publish, table, time_rows
from .counting import count
from .original_stylegan2 import OriginalSynthesis

CHECKED = 2  # codes on which every row is compared with the original
RGB_SCALE = 0.12


def generator_state(size: int) -> dict[str, Tensor]:
    """A seeded config-f generator of ``size`` px."""
    channels = {side: width for side, width in seeds.CONFIG_F.items() if side <= size}
    state = seeds.rosinality(channels, 512, 8)
    for key in state:
        if "to_rgb" in key and key.endswith("conv.weight"):
            state[key] = state[key] * RGB_SCALE
    return state


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=this_machine().cores)
    parser.add_argument("--skip-int8", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    state = generator_state(options.size)
    weights = from_rosinality(TensorTable(state, "generator", "seeded fill"))
    z = torch.randn(24, 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        codes = Mapping(weights)(z)[:, None].repeat(1, weights.n_styles, 1).numpy()

    original = OriginalSynthesis({k: v for k, v in state.items() if not k.startswith("style.")}).eval()
    print("export the original as it is", flush=True)
    plain = to_onnx(original, {"codes": torch.from_numpy(codes[:1])}, ["image"])
    print("export ours", flush=True)
    ours = to_onnx(Synthesis(weights).eval(), {"codes": torch.from_numpy(codes[:1])}, ["image"])
    counted = count(GraphEditor(ours))

    def eager(i: int) -> np.ndarray:
        with torch.inference_mode():
            return original(torch.from_numpy(codes[i : i + 1])).numpy()

    rows = [Row("original, eager PyTorch", eager)]
    with tempfile.TemporaryDirectory() as folder:

        def add(label: str, data: bytes, backend: str, **settings: str) -> None:
            path = Path(folder) / f"{len(rows)}.onnx"
            path.write_bytes(data)
            session = open_session(path, backend=backend, threads=options.threads, **settings)
            out = {"image": np.empty(session.outputs[0].shape, np.float32)}
            rows.append(Row(label, lambda i: session.run({"codes": codes[i : i + 1]}, out)["image"].copy()))

        add("plain export, ONNX Runtime", plain, "onnxruntime")
        add("ours, ONNX Runtime float32", ours, "onnxruntime")
        if "native" in usable_backends():
            add("ours, native float32", ours, "native")
            add("ours, native int16", ours, "native", precision="int16")
        if "openvino" in usable_backends():
            from doppelgan.runtime.backends.openvino import cpu_precisions

            add("ours, OpenVINO float32", ours, "openvino")
            if "bf16" in cpu_precisions():
                add("ours, OpenVINO bfloat16", ours, "openvino", precision="bf16")
            if not options.skip_int8:
                bits = 7 if this_machine().int8_saturates else 8
                samples = [{"codes": code[None]} for code in codes]
                try:
                    variant = make_variant(
                        "synthesis", ours, "int8", samples[2:6], samples[10:14],
                        weight_bits=bits, transposed=this_machine().int8_transposed,
                        report=lambda step: print(step, flush=True),
                    )  # fmt: skip
                    kept = f", {len(variant.kept)} layers float32" if variant.kept else ""
                    add(f"ours, OpenVINO int8{kept}", variant.onnx, "openvino")
                except ParityError as error:
                    print(error)
        check(rows, CHECKED, image=True)
        time_rows(rows, options.rounds)
    command = f"python -m benchmarks.stylegan2_1024 --size {options.size} --rounds {options.rounds}"
    page = [
        header(f"StyleGAN2 config-f {options.size} px, one picture, {options.threads} threads", command),
        f"{2 * counted.multiply_adds / 1e9:.0f} GFLOP in dense and filter convolutions and matrix products; "
        f"{options.rounds} rounds in turns; drift on {CHECKED} codes against the original.\n",
        table(rows, rows[:2], 2 * counted.multiply_adds / 1e9),
    ]
    publish("\n".join(page), options.output)


if __name__ == "__main__":
    main()
