"""A person that a base carries: a difference, small, exact enough, and refused where it does not belong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.backends.native.onnx_file import parse_graph, with_constants
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.bundle.difference import difference, with_difference
from doppelgan.runtime.bundle.personal import PERSON, open_person, pack_person, write_personal
from doppelgan.runtime.errors import BackendError, BundleError
from doppelgan.runtime.host.files import sha256_of
from doppelgan.runtime.manifest import DataFile, Enrollment, read_manifest, write_manifest

from .. import tiny

ENROLLMENT = Enrollment("tiny", "0" * 64, 1, 150, 30.0, (12.0, 30.0), "2026-11-27", "test")


def network(folder: Path) -> bytes:
    return (folder / "mapping.onnx").read_bytes()  # one matrix


def changed(data: bytes, by: float) -> bytes:
    (name,) = parse_graph(data, "").constants
    before = parse_graph(data, "").constants[name]
    return with_constants(data, {name: before + by * np.random.default_rng(0).standard_normal(before.shape)})


def test_constants_are_replaced_where_they_lie(tiny_bundle: Path) -> None:
    data = network(tiny_bundle)
    again = changed(data, 0.1)
    assert len(again) == len(data)
    assert again != data
    with pytest.raises(BackendError, match=r"\[2\].*got"):
        with_constants(data, {"weight": np.zeros(2)})
    with pytest.raises(BackendError, match="got none"):
        with_constants(data, {"bias": np.zeros(2)})


@pytest.mark.parametrize("small", [0, 10_000])
def test_a_difference_is_added_again(tiny_bundle: Path, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppelgan.runtime.bundle.difference.SMALL", small)
    base = network(tiny_bundle)
    tuned = changed(base, 0.1)
    arrays = difference(base, tuned)
    assert {array.dtype.name for array in arrays.values()} == ({"float16"} if small else {"int8", "float32"})
    again = with_difference(base, arrays)
    weights = [parse_graph(data, "").constants["weight"] for data in (base, tuned, again)]
    assert np.abs(weights[2] - weights[1]).max() < 0.04 * np.abs(weights[1] - weights[0]).max()
    assert difference(base, base) == {}


def test_a_difference_of_another_network_is_refused(tiny_bundle: Path) -> None:
    base = network(tiny_bundle)
    with pytest.raises(BundleError, match="another base"):
        with_difference(base, {"weight": np.zeros((2, 2), np.int8)})
    with pytest.raises(BundleError, match="one graph"):
        difference(base, (tiny_bundle / "encoder.onnx").read_bytes())


@pytest.fixture
def carrying(tmp_path: Path) -> Path:
    """A base with a memory that carries a person."""
    base = tiny.write_bundle(tmp_path / "base", remembers=True)
    tuned = tmp_path / "person"
    with open_bundle(base) as bundle:
        data = (base / "synthesis.onnx").read_bytes()
        pick = 0.5 * parse_graph(data, "").constants["pick"]
        pivot = np.full((tiny.STYLES, tiny.W_DIM), 0.25, np.float32)
        appearance = np.array([0.7], np.float32)
        write_personal(
            tuned, bundle, "photo", with_constants(data, {"pick": pick}), ENROLLMENT, pivot, appearance
        )
        with open_bundle(tuned) as person:
            pack_person(bundle, person, tmp_path / "person.npz")
    manifest = read_manifest((base / "manifest.json").read_bytes(), "base")
    shutil.copyfile(tmp_path / "person.npz", base / "person.npz")
    manifest.files[PERSON] = DataFile("person.npz", sha256_of(base / "person.npz"))
    (base / "manifest.json").write_bytes(write_manifest(manifest))
    return base


def test_a_base_opens_the_person_that_it_carries(carrying: Path) -> None:
    crop = np.full((1, 3, tiny.SIZE, tiny.SIZE), -0.4, np.float32)
    with open_bundle(carrying) as bundle:
        with open_person(bundle) as person:
            assert person is not None
            folder = person.path
            assert person.manifest.enrollment == ENROLLMENT
            codes = person.encode(crop)
            np.testing.assert_allclose(codes[0, :, 0], 0.7, atol=1e-6)  # red is the person's
            np.testing.assert_allclose(codes[0, :, 1], -0.4, atol=1e-6)  # green is the driver's
            np.testing.assert_allclose(person.synthesize(codes), 0.5 * bundle.synthesize(codes), atol=1e-3)
        assert not folder.exists()


def test_most_bases_carry_nobody(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle, open_person(bundle) as person:
        assert person is None
