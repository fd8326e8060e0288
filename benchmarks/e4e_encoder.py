"""The e4e encoder (IR-SE-50, 256 px crop, 18 styles): as its own program computes it in PyTorch, and ours.

    python -m benchmarks.e4e_encoder [--rounds 9] [--threads 2] [--output page.md]

Weights are a seeded fill of the real shapes. Drift is the relative L2 distance of codes over CHECKED crops.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.encoders import CROP_SIZE, Encoder
from doppelgan.export.onnx_files.graph_edit import GraphEditor
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.variants.precision import make_variant
from doppelgan.runtime.backends import open_session
from doppelgan.runtime.errors import ParityError
from doppelgan.runtime.host.machine import this_machine
from doppelgan.runtime.measure.autotune import usable_backends

from tests.export import reference_encoders, seeds

from .common import Row, check, header, publish, table, time_rows
from .counting import count

KIND, STYLES, CHECKED = "Encoder4Editing", 18, 2


def smooth_crops(n: int) -> np.ndarray:
    """Smooth noise in -1..1 with some detail, float32 [n,3,256,256]."""
    seed = torch.Generator().manual_seed(3)
    coarse = torch.nn.functional.interpolate(
        torch.rand(n, 3, 8, 8, generator=seed), CROP_SIZE, mode="bicubic"
    )
    return (1.6 * coarse - 0.8 + 0.1 * torch.randn(coarse.shape, generator=seed)).clamp(-1, 1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=this_machine().cores)
    parser.add_argument("--skip-int8", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    state = seeds.encoder(KIND, STYLES, 512, seeds.FULL_WIDTHS)
    average = seeds.fill("latent_avg", (STYLES, 512), 0.3)
    encoder = Encoder(TensorTable(state, "encoder", "seeded fill"), KIND, STYLES, 512, average).eval()
    crops = smooth_crops(16)
    print("export", flush=True)
    data = to_onnx(encoder, {"crop": torch.from_numpy(crops[:1])}, ["codes"])
    gflop = 2 * count(GraphEditor(data)).multiply_adds / 1e9

    def eager(i: int) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(crops[i : i + 1])
            return (reference_encoders.encode(state, KIND, STYLES, x) + average).numpy()

    rows = [Row("original, eager PyTorch", eager)]
    with tempfile.TemporaryDirectory() as folder:

        def add(label: str, content: bytes, backend: str, **settings: str) -> None:
            path = Path(folder) / f"{len(rows)}.onnx"
            path.write_bytes(content)
            session = open_session(path, backend=backend, threads=options.threads, **settings)
            rows.append(Row(label, lambda i: session.run({"crop": crops[i : i + 1]})["codes"]))

        add("ours, ONNX Runtime float32", data, "onnxruntime")
        for precision in ("float32", "int16") if "native" in usable_backends() else ():
            add(f"ours, native {precision}", data, "native", precision=precision)
        if "openvino" in usable_backends():
            from doppelgan.runtime.backends.openvino import cpu_precisions

            add("ours, OpenVINO float32", data, "openvino")
            if "bf16" in cpu_precisions():
                add("ours, OpenVINO bfloat16", data, "openvino", precision="bf16")
            if not options.skip_int8:
                samples = [{"crop": crop[None]} for crop in crops]
                try:
                    variant = make_variant(
                        "encoder", data, "int8", samples[2:8], samples[8:12],
                        weight_bits=7 if this_machine().int8_saturates else 8,
                        report=lambda step: print(step, flush=True),
                    )  # fmt: skip
                    add(f"ours, OpenVINO int8, {len(variant.kept)} layers float32", variant.onnx, "openvino")
                except ParityError as error:
                    print(error)
        check(rows, CHECKED, image=False)
        time_rows(rows, options.rounds)
    page = [
        header(
            f"e4e encoder, one crop, {options.threads} threads",
            f"python -m benchmarks.e4e_encoder --rounds {options.rounds}",
        ),
        f"{gflop:.0f} GFLOP; {options.rounds} rounds in turns; "
        f"drift on {CHECKED} crops against the original.\n",
        table(rows, rows[:1], gflop),
    ]
    publish("\n".join(page), options.output)


if __name__ == "__main__":
    main()
