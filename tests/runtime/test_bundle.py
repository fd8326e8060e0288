"""Bundles: what is written can be opened; what is damaged is refused with a sentence that helps."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from doppelgan.runtime.bundle import BundleWriter, find_bundle, list_bundles, open_bundle
from doppelgan.runtime.bundle import reader as bundle_module
from doppelgan.runtime.errors import BundleError
from doppelgan.runtime.manifest import read_manifest, style_steps

from .. import tiny


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.update(changes)
    path.write_text(json.dumps(manifest))


def test_steps_between_styles_belong_to_a_dial_that_gets_ever_more_like_its_end() -> None:
    styles = ("photo", "toon@8", "toon@32", "toon", "clay", "clay@x", "oil@16")
    assert style_steps(styles) == {
        "photo": ("photo",),
        "toon": ("photo", "toon@32", "toon@8", "toon"),
        "clay": ("clay",),
        "clay@x": ("clay@x",),
        "oil@16": ("oil@16",),
    }
    assert style_steps(()) == {}


def test_opened_bundle_tells_shapes_styles_and_directions(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        assert (bundle.n_styles, bundle.w_dim) == (tiny.STYLES, tiny.W_DIM)
        assert (bundle.image_size, bundle.crop_size) == (tiny.SIZE, tiny.SIZE)
        assert bundle.styles == ("photo", "toon")
        assert set(bundle.directions) == {"red", "green"}
        assert bundle.path == tiny_bundle


def test_encode_synthesize_and_map_compute_what_the_networks_say(tiny_bundle: Path) -> None:
    crops = np.zeros((2, 3, tiny.SIZE, tiny.SIZE), np.float32)
    crops[0, 0], crops[1, 2] = 0.5, -0.25
    with open_bundle(tiny_bundle) as bundle:
        codes = bundle.encode(crops)
        assert codes.shape == (2, tiny.STYLES, tiny.W_DIM)
        np.testing.assert_allclose(codes[0, :, 0], 0.5, atol=1e-6)
        np.testing.assert_allclose(bundle.synthesize(codes), crops, atol=1e-6)
        np.testing.assert_allclose(bundle.synthesize(codes, style="toon"), -crops, atol=1e-6)
        np.testing.assert_allclose(bundle.map(np.ones((3, tiny.Z_DIM), np.float32)), 2.0)


def test_restyle_halves_the_remaining_difference_at_each_step(tmp_path: Path) -> None:
    crop = np.full((1, 3, tiny.SIZE, tiny.SIZE), 0.8, np.float32)
    with open_bundle(tiny.write_bundle(tmp_path / "restyle", restyle=True)) as bundle:
        steps = bundle.encoder.trajectory(crop)
        assert len(steps) == 5
        for k, codes in enumerate(steps, start=1):
            np.testing.assert_allclose(codes[0, :, :3], 0.8 * (1 - 0.5**k), rtol=1e-5)
        np.testing.assert_allclose(bundle.encode(crop, steps=2), steps[1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: b.encode(np.zeros((1, 3, 8, 8), np.float32)), ["RGB float32 [N,3,16,16]", "[1, 3, 8, 8]"]),
        (lambda b: b.encode(np.zeros((1, 3, 16, 16), np.float32), steps=3), ["one-pass"]),
        (lambda b: b.synthesize(np.zeros((1, 5, 6), np.float32)), ["codes", "[1, 5, 6]"]),
        (lambda b: b.map(np.zeros(6, np.float32)), ["z", "[6]"]),
    ],
)
def test_wrong_shapes_name_expected_and_got(tiny_bundle: Path, call, words) -> None:
    with open_bundle(tiny_bundle) as bundle, pytest.raises(ValueError, match="expected") as caught:
        call(bundle)
    assert all(word in str(caught.value) for word in words)


def test_unknown_style_and_network_are_bundle_errors(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        with pytest.raises(BundleError, match="photo, toon"):
            bundle.synthesize(np.zeros((1, tiny.STYLES, tiny.W_DIM), np.float32), style="oil")
        with pytest.raises(BundleError, match="detector"):
            bundle.session("detector")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "encoder.onnx").write_bytes(b"other"), "expected sha256"),
        (lambda f: (f / "latent.npz").unlink(), "incomplete"),
        (lambda f: (f / "manifest.json").write_text("{"), "expected JSON"),
        (lambda f: (f / "manifest.json").write_text("[]"), "is this a doppelgan bundle"),
        (lambda f: edit_manifest(f, version=99), "expected version 1, got 99"),
        (lambda f: edit_manifest(f, n_styles=9), r"expected codes \[1, 9, 6\]"),
        (lambda f: edit_manifest(f, w_dim="six"), "w_dim"),
        (lambda f: edit_manifest(f, surprise=1), "surprise"),
        (lambda f: edit_manifest(f, generators={"photo": "nothing"}), "nothing"),
        (lambda f: edit_manifest(f, files={"latent": {"file": "../x", "sha256": ""}}), "inside the bundle"),
    ],
)
def test_damaged_bundle_is_refused(copy: Path, damage, words) -> None:
    damage(copy)
    with pytest.raises(BundleError, match=words):
        open_bundle(copy)


def test_network_that_differs_from_its_manifest_is_refused_on_use(copy: Path) -> None:
    (copy / "encoder.onnx").write_bytes(tiny.encoder(channels=4))
    with (
        open_bundle(copy, verify=False) as bundle,
        pytest.raises(BundleError, match="expected tensors"),
    ):
        bundle.session("encoder")


def test_bundles_are_found_by_name(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOPPELGAN_ENGINES", str(tiny_bundle.parent))
    assert find_bundle("tiny") == tiny_bundle
    assert tiny_bundle in list_bundles()
    with pytest.raises(BundleError, match=r"bundles here: .*tiny"):
        find_bundle("tinny")
    with pytest.raises(BundleError, match="a folder without one"):
        find_bundle(tiny_bundle.parent)


def test_writer_refuses_an_existing_target_and_leaves_it_alone(copy: Path) -> None:
    before = sorted(copy.iterdir())
    with pytest.raises(BundleError, match="already there"):
        tiny.write_bundle(copy)
    assert sorted(copy.iterdir()) == before


def test_overwriting_replaces_a_bundle_and_what_was_compiled_of_it(copy: Path) -> None:
    (copy / "compiled").mkdir()
    (copy / "compiled" / "x.json").write_text("{}")
    tiny.write_bundle(copy, toon=False, overwrite=True)
    assert not (copy / "compiled").exists()
    with open_bundle(copy) as bundle:
        assert bundle.styles == ("photo",)
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("what", ["folder", "bundle and more", "file", "link to a folder", "damaged"])
def test_overwriting_takes_away_nothing_but_a_bundle(copy: Path, tmp_path: Path, what: str) -> None:
    """`--overwrite -o .` or `-o Documents` must not be the end of them."""
    mine = tmp_path / "Documents"
    if what in ("bundle and more", "damaged"):
        copy.rename(mine)
    else:
        mine.mkdir()
    (mine / ("manifest.json" if what == "damaged" else "thesis.txt")).write_text("years of work")
    target = mine
    if what == "file":
        target = mine / "thesis.txt"
    elif what == "link to a folder":
        target = tmp_path / "link"
        target.symlink_to(mine)
    before = sorted(mine.rglob("*"))
    with pytest.raises(BundleError, match="expected a bundle to replace"):
        BundleWriter(target, overwrite=True)
    assert sorted(mine.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    tiny.write_bundle(tmp_path / "empty", overwrite=True)


def test_a_bundle_that_cannot_take_its_place_leaves_the_old_one(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copy / "manifest.json").read_bytes()
    real = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target == copy and self.name != "old":
            raise OSError(errno.EACCES, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(BundleError, match="Permission denied"):
        tiny.write_bundle(copy, toon=False, overwrite=True)
    assert (copy / "manifest.json").read_bytes() == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def write_half(path: Path) -> None:
    with BundleWriter(path, name="b", n_styles=1, w_dim=1, image_size=4) as writer:
        writer.add_latent(latent_avg=np.zeros((1, 1)))
        raise RuntimeError("interrupted")


def test_exception_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_half(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle_module.np, "savez", no_space)
    with pytest.raises(BundleError, match="No space left on device"):
        tiny.write_bundle(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_inconsistent_bundle_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match="synthesis"),
        BundleWriter(tmp_path / "b", name="b", n_styles=1, w_dim=1, image_size=4) as writer,
    ):
        writer.add_generator("photo", "synthesis")
    assert list(tmp_path.iterdir()) == []


def test_manifest_round_trip_keeps_parity_and_licence(tiny_bundle: Path) -> None:
    manifest = read_manifest((tiny_bundle / "manifest.json").read_bytes(), "here")
    assert manifest.networks["synthesis"].parity[0].psnr_db == 120.0
    assert manifest.license == "test"
