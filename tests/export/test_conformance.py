"""Outputs that the original implementations computed from the same weights: bundles agree to 1e-4.

The material lies beside the checkout; without it the same layers are tested against the formulas in
``test_stylegan2.py``, ``test_encoders.py`` and ``test_convert.py``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from doppelgan.export import export_checkpoint
from doppelgan.runtime.bundle import Bundle, open_bundle

TOLERANCE = 1e-4


def check(what: str, got: np.ndarray, want: np.ndarray) -> None:
    distance = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    assert distance < TOLERANCE, f"{what}: relative L2 {distance:.1e}"


@pytest.fixture(scope="module")
def cases(shared: Path) -> ModuleType:
    path = shared / "conformance" / "fill.py"
    if not path.is_file():
        pytest.skip("shared conformance material is not beside this checkout")
    spec = importlib.util.spec_from_file_location("conformance_fill", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def export(cases: ModuleType, name: str, folder: Path) -> Bundle:
    torch.save(cases.checkpoint(name, as_torch=True), folder / "checkpoint.pt")
    bundle = open_bundle(export_checkpoint(folder / "checkpoint.pt", folder / name, trackers=False))
    # The torch module lies within this distance of ONNX Runtime's numbers, which are checked below.
    assert all(p.relative_l2 < 1e-5 for n in bundle.manifest.networks.values() for p in n.parity)
    return bundle


@pytest.mark.parametrize("name", ["stylegan2_64", "sg2ada_64"])
def test_generator(cases: ModuleType, name: str, tmp_path: Path) -> None:
    want = cases.expected(name)
    with export(cases, name, tmp_path) as bundle:
        check("image_w", bundle.synthesize(want["w"]), want["image_w"])
        w = bundle.map(want["z"])
        if "w_of_z" in want:
            check("w_of_z", w, want["w_of_z"])
        codes = bundle.latent_avg + 0.6 * (w[:, None] - bundle.latent_avg)
        if "ws_of_z" in want:
            check("ws_of_z", codes, want["ws_of_z"])
        check("image_z", bundle.synthesize(codes), want["image_z"])


@pytest.mark.parametrize("name", ["e4e_32", "psp_32", "restyle_e4e_32", "restyle_psp_32"])
def test_encoder_with_its_generator(cases: ModuleType, name: str, tmp_path: Path) -> None:
    want = cases.expected(name)
    crops = np.clip(cases.fill("x", [2, 3, 256, 256], 0.5, 0, cases.case(name)["seed"]), -1, 1)
    with export(cases, name, tmp_path) as bundle:
        if "codes" in want:
            codes = bundle.encode(crops)
            check("codes", codes, want["codes"])
            check("image", bundle.synthesize(codes), want["image"])
            return
        check("average_image", bundle.synthesize(bundle.latent_avg[None]), want["average_image"])
        for step, codes in enumerate(bundle.encoder.trajectory(crops, steps=3), start=1):
            check(f"codes_{step}", codes, want[f"codes_{step}"])
            check(f"image_{step}", bundle.synthesize(codes), want[f"image_{step}"])
