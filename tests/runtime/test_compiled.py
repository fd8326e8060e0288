"""Autotuning: what is tried, what is kept, and when a record counts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from doppelgan.runtime.backends import installed
from doppelgan.runtime.backends.native import session as native_backend
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.bundle import compiled as compiled_module
from doppelgan.runtime.bundle.compiled import Choice, Measurement, explain, find_compiled, read_record
from doppelgan.runtime.cli.compile import command
from doppelgan.runtime.errors import BackendError, BundleError, ParityError, SourceError
from doppelgan.runtime.host.machine import Machine, this_machine
from doppelgan.runtime.host.user_folders import user_cache
from doppelgan.runtime.measure import autotune as autotune_module
from doppelgan.runtime.measure.autotune import autotune, usable_backends
from doppelgan.runtime.measure.network_inputs import sample_inputs
from doppelgan.runtime.pictures.files import read_aligned

from .. import tiny

CODES = np.random.default_rng(1).normal(size=(1, tiny.STYLES, tiny.W_DIM)).astype(np.float32) / 4


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOPPELGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def tune(bundle: Path, **options: object) -> Path:
    """A record of the float32 networks in ONNX Runtime."""
    settings = {"backends": ["onnxruntime"], "precisions": ["float32"], "samples": 3, "rounds": 3, **options}
    return autotune(bundle, **settings)[0]  # type: ignore[arg-type]


@pytest.fixture
def variant(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle compiled so that "synthesis" runs a variant file; its folder."""
    monkeypatch.setattr(autotune_module, "_variant", lambda *_: (tiny.synthesis(), "as it was"))
    path = tune(copy, precisions=["float32", "int8"], networks=["synthesis"])
    record = read_record(path.read_bytes(), "test")
    (row,) = [m for m in record.measurements if m.precision == "int8" and m.threads == 1]
    assert row.note == "as it was"
    data = tiny.synthesis()
    digest = __import__("hashlib").sha256(data).hexdigest()
    (path.parent / "synthesis.int8.onnx").write_bytes(data)
    choice = Choice("onnxruntime", "int8", 1, "synthesis.int8.onnx", digest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, choices={"synthesis": choice})))
    return copy


def test_every_candidate_is_measured_and_the_fastest_kept(copy: Path) -> None:
    backends = usable_backends()
    path, record = autotune(copy, backends=backends, precisions=["float32"], samples=3, rounds=3)
    assert path == copy / "compiled" / f"{this_machine().key}.json"
    assert read_record(path.read_bytes(), "test") == record
    assert set(record.choices) == {"encoder", "synthesis", "synthesis-toon", "mapping"}
    for name, choice in record.choices.items():
        tried = [m for m in record.measurements if m.network == name]
        # The native programs are for generators and encoders, and these are neither StyleGAN2 nor pSp.
        refused = {"native"}.intersection(backends) if name != "mapping" else set()
        assert {m.backend for m in tried if m.refused} == refused
        rows = [m for m in tried if not m.refused]
        assert {m.backend for m in rows} == set(backends) - {"native"}
        assert all(m.drift is not None and m.drift.samples == 3 for m in rows)
        worth = [m for m in rows if "too little to load it" not in m.note]
        best = min(worth, key=lambda m: m.median_ms or np.inf)  # all are float32
        assert (choice.backend, choice.threads, choice.file) == (best.backend, best.threads, "")


@pytest.mark.skipif(not installed("native"), reason="the compiled kernels are missing, or no AVX2")
def test_the_native_synthesis_is_tried_in_what_the_processor_gains_from(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with open_bundle("demo") as demo:
        shutil.copytree(demo.path, folder, ignore=shutil.ignore_patterns("compiled"))
    _, record = autotune(folder, backends=["native"], networks=["synthesis"], samples=2, rounds=3)
    tried = {(m.precision, m.threads) for m in record.measurements}
    cores = this_machine().cores
    wanted = native_backend.precisions()
    assert tried == {(p, t) for p in wanted for t in {1, max(1, cores // 2), cores}}
    assert all(m.drift is not None and (m.drift.psnr_db or 0) > 45 for m in record.measurements)
    (choice,) = record.choices.values()
    assert choice.options == ({} if choice.precision == "float32" else {"precision": choice.precision})


def test_a_cheaper_precision_has_to_win_clearly() -> None:
    exact, cheap = (Measurement("n", "b", p, 1, 10.0) for p in ("float32", "int8"))
    faster = msgspec.structs.replace(cheap, median_ms=9.7)
    assert min([exact, faster, cheap], key=autotune_module._rank) is exact
    much_faster = msgspec.structs.replace(cheap, median_ms=9.0)
    assert min([exact, much_faster], key=autotune_module._rank) is much_faster


def timed(**times_ms: dict[str, float]) -> dict[str, list[tuple[Measurement, Any]]]:
    """What was measured: network -> backend -> ms, in float32 with one thread."""
    return {
        network: [(Measurement(network, b, "float32", 1, ms), None) for b, ms in of_network.items()]
        for network, of_network in times_ms.items()
    }


RUNS = {"encoder": 1, "synthesis": 1}


@pytest.mark.parametrize(
    ("openvino_ms", "used"),
    [(9.0, "openvino"), (9.1, "onnxruntime")],  # of a frame of 20 ms: 5 % saved, and less
)
def test_one_more_engine_has_to_save_a_twentieth_of_a_frame(openvino_ms: float, used: str) -> None:
    measured = timed(
        encoder={"onnxruntime": 10.0, "openvino": openvino_ms},
        synthesis={"onnxruntime": 20.0, "native": 10.0},
        mapping={"onnxruntime": 9.0, "openvino": 1.0},  # not in a frame: counts for nothing, and follows
    )
    best, passed_over = autotune_module._choose(measured, RUNS)
    chosen = {name: row.backend for name, (row, _) in best.items()}
    assert chosen == {"encoder": used, "synthesis": "native", "mapping": used}
    words = {row.network: word for row, word in passed_over.items()}
    reason = "openvino saves 0.9 ms of a frame's 20.0: too little to load it"
    assert words == ({} if used == "openvino" else {"encoder": reason, "mapping": reason})


def test_all_that_was_passed_over_is_told_and_nothing_that_was_slower_anyway() -> None:
    measured = timed(encoder={"onnxruntime": 10.0, "openvino": 9.9}, synthesis={"native": 10.0})
    more = [(Measurement("encoder", "openvino", "float32", n, ms), None) for n, ms in ((2, 9.8), (4, 11.0))]
    measured["encoder"] += more
    _, passed_over = autotune_module._choose(measured, RUNS)
    assert {row.threads for row in passed_over} == {1, 2}


def test_an_engine_that_a_network_cannot_do_without_stays() -> None:
    measured = timed(encoder={"openvino": 10.0}, synthesis={"onnxruntime": 10.0, "openvino": 9.9})
    best, passed_over = autotune_module._choose(measured, RUNS)
    assert {row.backend for row, _ in best.values()} == {"openvino"}
    assert not passed_over


def test_what_was_passed_over_says_so_in_the_record(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_over(measured: dict[str, list[Any]], _: object) -> tuple[dict[str, Any], dict[Measurement, str]]:
        return {"mapping": measured["mapping"][0]}, {measured["mapping"][1][0]: "too little"}

    two = msgspec.structs.replace(this_machine(), cores=2)  # to have something to choose from
    monkeypatch.setattr(autotune_module, "this_machine", lambda: two)
    monkeypatch.setattr(autotune_module, "_choose", pass_over)
    record = read_record(tune(copy, networks=["mapping"]).read_bytes(), "test")
    assert [m.note for m in record.measurements][:2] == ["", "too little"]
    assert record.choices["mapping"].threads == record.measurements[0].threads


def test_a_restyle_loop_counts_every_run_of_its_networks(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        assert autotune_module._runs_per_frame(bundle) == {"landmarks": 1, "encoder": 1, "synthesis": 1}
        info = msgspec.structs.replace(bundle.manifest.encoder, loop="restyle", steps=5)
        bundle.manifest = msgspec.structs.replace(bundle.manifest, encoder=info)
        assert autotune_module._runs_per_frame(bundle) == {"landmarks": 1, "encoder": 5, "synthesis": 6}


def test_a_bundle_picks_its_record_up_by_itself_unless_told_otherwise(copy: Path) -> None:
    tune(copy)
    with open_bundle(copy) as bundle:
        assert bundle.compiled is not None
        assert bundle.synthesize(CODES).shape == (1, 3, tiny.SIZE, tiny.SIZE)
    with open_bundle(copy, compiled=False) as bundle:
        assert bundle.compiled is None
    with open_bundle(copy, backend="onnxruntime") as bundle:
        assert bundle.compiled is None


def test_a_variant_is_what_runs(variant: Path) -> None:
    target = variant / "compiled" / "synthesis.int8.onnx"
    with open_bundle(variant) as bundle:
        want = bundle.synthesize(CODES)
    data = tiny.synthesis(invert=True)
    target.write_bytes(data)
    path = variant / "compiled" / f"{this_machine().key}.json"
    record = json.loads(path.read_text())
    record["choices"]["synthesis"]["sha256"] = __import__("hashlib").sha256(data).hexdigest()
    path.write_text(json.dumps(record))
    with open_bundle(variant) as bundle:
        np.testing.assert_allclose(bundle.synthesize(CODES), -want, atol=1e-6)


def test_a_damaged_or_missing_variant_is_refused(variant: Path) -> None:
    target = variant / "compiled" / "synthesis.int8.onnx"
    target.write_bytes(target.read_bytes() + b"\0")
    with (
        open_bundle(variant) as bundle,
        pytest.raises(BundleError, match="something else; run `doppelgan compile`"),
    ):
        bundle.synthesize(CODES)
    target.unlink()
    with open_bundle(variant) as bundle, pytest.raises(BundleError, match="no file"):
        bundle.synthesize(CODES)


def test_a_variant_past_its_bound_is_refused_with_the_figure(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune_module, "_variant", lambda *_: (tiny.synthesis(invert=True), ""))
    path = tune(copy, precisions=["float32", "int8"], networks=["synthesis"])
    record = read_record(path.read_bytes(), "test")
    (refused,) = [m for m in record.measurements if m.refused]
    assert refused.precision == "int8"
    assert refused.median_ms is None
    assert "expected at least 30 dB" in refused.refused
    assert record.choices["synthesis"].precision == "float32"


def test_a_variant_that_cannot_be_made_is_noted_and_the_rest_goes_on(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> tuple[bytes, str]:
        raise ParityError("20 dB")

    monkeypatch.setattr(autotune_module, "_variant", fail)
    record = read_record(
        tune(copy, precisions=["float32", "int8"], networks=["synthesis"]).read_bytes(), "test"
    )
    assert [m.refused for m in record.measurements if m.refused] == ["20 dB"]
    assert "synthesis" in record.choices


def test_a_record_of_another_machine_is_ignored(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tune(copy)
    other = msgspec.structs.replace(this_machine(), key="other-1", processor="other")
    monkeypatch.setattr(compiled_module, "this_machine", lambda: other)
    with open_bundle(copy) as bundle:
        assert bundle.compiled is None
        assert "made on another machine" in explain(bundle.path, bundle.manifest)
    path.rename(path.with_name("other-1.json"))  # a new name does not make it this machine's
    with open_bundle(copy) as bundle:
        assert bundle.compiled is None


def test_a_choice_for_a_changed_network_or_a_missing_backend_is_ignored(copy: Path) -> None:
    path = tune(copy)
    record = json.loads(path.read_text())
    record["sources"]["synthesis"] = "0" * 64
    record["choices"]["encoder"]["backend"] = "no_such_package"
    path.write_text(json.dumps(record))
    with open_bundle(copy) as bundle:
        assert bundle.compiled is not None
        assert bundle.compiled.choice("synthesis", bundle.manifest) is None
        assert bundle.compiled.choice("encoder", bundle.manifest) is None
        assert bundle.compiled.choice("mapping", bundle.manifest) is not None
        assert "ignored (changed network or missing backend): encoder, synthesis" in explain(
            copy, bundle.manifest
        )
        bundle.synthesize(CODES)


@pytest.mark.parametrize("text", ["{", '{"format": "x"}'])
def test_an_unreadable_record_is_passed_over(copy: Path, text: str) -> None:
    tune(copy).write_text(text)
    with open_bundle(copy) as bundle:
        assert bundle.compiled is None
        assert "unreadable" in explain(copy, bundle.manifest)


def test_a_record_may_not_point_outside_its_folder(variant: Path) -> None:
    path = variant / "compiled" / f"{this_machine().key}.json"
    path.write_text(path.read_text().replace("synthesis.int8.onnx", "../synthesis.onnx"))
    with pytest.raises(BundleError, match="beside the record"):
        read_record(path.read_bytes(), "test")
    with open_bundle(variant) as bundle:
        assert find_compiled(bundle.path, bundle.manifest) is None


@pytest.mark.parametrize("options", [{"verified_sha256": "0" * 64}, {"cache": "compiled"}, {"threads": "9"}])
def test_a_record_may_set_no_option_but_the_precision(copy: Path, options: dict[str, str]) -> None:
    path = tune(copy)
    record = json.loads(path.read_text())
    record["choices"]["synthesis"]["options"] = options
    path.write_text(json.dumps(record))
    with pytest.raises(BundleError, match="expected no options but precision"):
        read_record(path.read_bytes(), "test")
    with open_bundle(copy) as bundle:
        assert bundle.compiled is None


def test_where_the_bundle_cannot_be_written_the_users_cache_is_used(copy: Path, cache: Path) -> None:
    (copy / "compiled").write_text("a file where the folder would be")
    path = tune(copy)
    assert user_cache() == cache
    assert cache in path.parents
    with open_bundle(copy) as bundle:
        assert bundle.compiled is not None
        assert bundle.compiled.folder == path.parent
    # The same name with other networks has another folder.
    (cache / "x").mkdir()
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "description": "changed"}))
    with open_bundle(copy) as bundle:
        assert bundle.compiled is None


def test_inputs_are_those_the_networks_take_and_the_same_every_time(tiny_bundle: Path) -> None:
    def drawn(bundle: Bundle, name: str) -> list[dict[str, np.ndarray]]:
        return sample_inputs(bundle, name, 3, seed=5)

    with open_bundle(tiny_bundle) as bundle:
        for name in bundle.manifest.networks:
            specs = bundle.session(name).inputs
            first, second = drawn(bundle, name), drawn(bundle, name)
            for one, other in zip(first, second, strict=True):
                assert {k: (v.dtype.name, v.shape) for k, v in one.items()} == {
                    s.name: (s.dtype, s.shape) for s in specs
                }
                for key, value in one.items():
                    np.testing.assert_array_equal(value, other[key])
        crop = np.full((3, 8, 8), 0.25, np.float32)
        taken = sample_inputs(bundle, "encoder", 2, crops=[crop])
        np.testing.assert_allclose(taken[0]["crop"], 0.25)
        assert not np.allclose(taken[1]["crop"], 0.25)


def test_crops_are_read_as_rgb_and_must_be_square(tmp_path: Path) -> None:
    import cv2

    with pytest.raises(SourceError, match="expected a folder with aligned pictures"):
        read_aligned(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    (crop,) = read_aligned(tmp_path)
    np.testing.assert_allclose(crop[:, 0, 0], [1, -1, -1])
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(SourceError, match=r"b\.png.*6x4"):
        read_aligned(tmp_path)


def test_the_command_prints_the_table_and_writes_report_and_plot(copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    arguments = [
        str(copy),
        "--backend",
        "onnxruntime",
        "--precision",
        "float32",
        "--samples",
        "2",
        "--rounds",
        "3",
    ]
    result = CliRunner().invoke(
        command, [*arguments, "--report", str(tmp_path / "report")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "synthesis-toon" in result.output
    page = (tmp_path / "report" / "compile.md").read_text()
    assert page.count("| kept |") == 4
    assert (tmp_path / "report" / "compile.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"networks": ["synthesis", "nose"]}, "expected a network of .*mapping.*, got 'nose'"),
        ({"backends": ["onnxruntime", "abacus"]}, "expected a backend of onnxruntime.*, got 'abacus'"),
        ({"backends": ["tensorrt"]}, "expected a backend of .*, got 'tensorrt'"),
    ],
)
def test_unknown_words_are_refused_and_the_record_stays(
    copy: Path, options: dict[str, Any], words: str
) -> None:
    path = tune(copy)
    before = path.read_bytes()
    with pytest.raises(BackendError, match=words):
        tune(copy, **options)
    assert path.read_bytes() == before


def test_one_network_tuned_anew_leaves_the_others_as_they_are(variant: Path) -> None:
    """`variant` has a choice for "synthesis" alone, whose file is its own."""
    path = tune(variant, networks=["mapping"])
    record = read_record(path.read_bytes(), "test")
    assert set(record.choices) == set(record.sources) == {"mapping", "synthesis"}
    assert record.choices["synthesis"].file == "synthesis.int8.onnx"
    assert {m.network for m in record.measurements} == {"mapping", "synthesis"}
    with open_bundle(variant) as bundle:
        bundle.synthesize(CODES)
    again = read_record(tune(variant, networks=["synthesis"]).read_bytes(), "test")
    assert again.choices["synthesis"].file == "", "what was tuned is replaced"
    assert len(again.measurements) == len(
        {(m.network, m.backend, m.precision, m.threads) for m in again.measurements}
    )


def test_an_unknown_precision_is_named(copy: Path) -> None:
    with pytest.raises(BackendError, match=r"expected precisions of float32, .*got int4"):
        tune(copy, precisions=["int4"])


def test_the_machine_has_a_stable_key_and_knows_whether_int8_saturates() -> None:
    assert this_machine() == this_machine()
    assert this_machine().cores >= 1
    old = Machine("k", "Linux x86_64", "cpu", 2, ("avx2",))
    assert old.int8_saturates
    assert not msgspec.structs.replace(old, instructions=("avx2", "avx_vnni")).int8_saturates
    assert not Machine("k", "Linux aarch64", "cpu", 2, ("asimddp",)).int8_saturates


def test_bfloat16_is_tried_where_the_cpu_computes_in_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    settings = {"backends": ["openvino"], "precisions": ["float32", "bfloat16"], "networks": ["synthesis"]}
    for computes, tried in ((False, {"float32"}), (True, {"float32", "bfloat16"})):
        monkeypatch.setattr(autotune_module, "_computes_bf16", lambda answer=computes: answer)
        record = read_record(tune(copy, **settings).read_bytes(), "test")
        assert {m.precision for m in record.measurements} == tried
