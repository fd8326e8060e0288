"""Checkpoint in, bundle out: what the bundle computes is what the checkpoint's formulas say."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from doppelgan.export import export_checkpoint, export_module
from doppelgan.export.onnx_files import onnx_graph
from doppelgan.runtime import cli
from doppelgan.runtime.bundle import Bundle, open_bundle
from doppelgan.runtime.errors import BundleError, CheckpointError, DoppelganError, ParityError
from doppelgan.runtime.manifest import read_manifest, style_steps

from . import reference_encoders, seeds
from . import reference_stylegan2 as reference

BARE: dict[str, Any] = {"trackers": False, "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _a_network_is_converted_once() -> Iterator[None]:
    """Many of these exports differ in what is around the same networks."""
    converted: dict[str, bytes] = {}
    to_onnx = onnx_graph.to_onnx

    def once(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]) -> bytes:
        key = fingerprint(module, {name: one.shape for name, one in inputs.items()}, outputs)
        if key not in converted:
            converted[key] = to_onnx(module, inputs, outputs)
        return converted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "to_onnx", once)
        yield


def fingerprint(module: torch.nn.Module, *more: object) -> str:
    """Of everything in a module and what it is converted with: its parts, their numbers and settings."""
    found = hashlib.sha256(repr(more).encode())
    for name, part in module.named_modules():
        found.update(f"{name} {type(part).__qualname__}".encode())
        for key, value in {**vars(part), **part._parameters, **part._buffers}.items():
            if isinstance(value, torch.Tensor):
                found.update(f"{key} {value.shape}".encode() + value.detach().numpy().tobytes())
            elif not key.startswith("_"):
                found.update(f"{key} {value!r}".encode())
    return found.hexdigest()


def relative(got: np.ndarray, want: torch.Tensor | np.ndarray) -> float:
    want = np.asarray(want)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny checkpoints by name."""
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {
        "generator": {"g_ema": seeds.rosinality(), "latent_avg": seeds.fill("avg", (16,), 0.3)},
        "toon": {"g_ema": seeds.rosinality(seed=5)},
        "kin": {"g_ema": {k: v + 0.1 * v.roll(1) for k, v in seeds.rosinality().items()}},
        "larger": {"g_ema": seeds.rosinality({**seeds.TINY, 32: 4})},
        "e4e": seeds.psp_checkpoint("Encoder4Editing"),
        "restyle": seeds.psp_checkpoint("BackboneEncoder", in_channels=6),
        "direction": seeds.fill("age", (1, 16)),
    }
    for name, content in made.items():
        torch.save(content, folder / f"{name}.pt")
    (folder / "nvidia.pkl").write_bytes(seeds.nvidia_pickle(seeds.nvidia(), conv_clamp=0.7))
    relu = {".*conv.": {"activation": "relu"}}
    (folder / "relu.pkl").write_bytes(seeds.nvidia_pickle(seeds.nvidia(), changes=relu))
    (folder / "gray.pkl").write_bytes(seeds.nvidia_pickle(seeds.nvidia(image_channels=1), img_channels=1))
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def bundles(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Open a bundle that was exported once from a tiny checkpoint."""
    folder = tmp_path_factory.mktemp("engines")
    more: dict[str, dict[str, Any]] = {
        "generator": {"toon": files["toon"], "directions": [files["direction"]]}
    }

    def get(name: str) -> Bundle:
        if not (folder / name).exists():
            export_checkpoint(files[name], folder / name, license="CC0-1.0", **more.get(name, {}), **BARE)
        return open_bundle(folder / name, threads=1)

    return get


class TestGenerator:
    def test_pictures_are_the_formulas(self, bundles: Callable[[str], Bundle]) -> None:
        bundle = bundles("generator")
        codes = seeds.fill("codes", (2, 6, 16))
        photo, toon = (reference.rosinality_synthesis(seeds.rosinality(seed=s), codes) for s in (0, 5))
        assert relative(bundle.synthesize(codes.numpy()), photo) < 1e-5
        assert relative(bundle.synthesize(codes.numpy(), style="toon"), toon) < 1e-5
        z = seeds.fill("z", (3, 16))
        assert relative(bundle.map(z.numpy()), reference.rosinality_mapping(seeds.rosinality(), z)) < 1e-5

    def test_nvidia_pickle_with_its_clamp(self, bundles: Callable[[str], Bundle]) -> None:
        bundle = bundles("nvidia")
        codes = seeds.fill("codes", (1, 6, 16))
        assert (
            relative(bundle.synthesize(codes.numpy()), reference.nvidia_synthesis(seeds.nvidia(), codes, 0.7))
            < 1e-5
        )
        np.testing.assert_array_equal(bundle.latent_avg, np.tile(seeds.nvidia()["mapping.w_avg"], (6, 1)))

    def test_nvidia_pickle_with_another_activation(self, bundles: Callable[[str], Bundle]) -> None:
        """Whichever backend serves: one that computes leaky ReLU alone must not take it."""
        codes = seeds.fill("codes", (1, 6, 16))
        want = reference.nvidia_synthesis(seeds.nvidia(), codes, activation="relu")
        assert relative(bundles("relu").synthesize(codes.numpy()), want) < 1e-5

    def test_steps_of_a_dial_from_photo_to_toon(self, files: dict[str, Path], tmp_path: Path) -> None:
        kin = {"toon": files["kin"], "blend_at": (8, 16)}
        path = export_checkpoint(files["generator"], tmp_path / "dial", **kin, **BARE)
        codes = seeds.fill("codes", (1, 6, 16)).numpy()
        with open_bundle(path, threads=1) as bundle:
            assert style_steps(bundle.styles) == {
                "photo": ("photo",),
                "toon": ("photo", "toon@16", "toon@8", "toon"),
            }
            pictures = [bundle.synthesize(codes, style) for style in bundle.styles]
        distances = [relative(picture, pictures[0]) for picture in pictures]
        assert 0 == distances[0] < distances[1] < distances[2] < distances[3]

    def test_one_place_of_blending_is_the_toon_itself(self, files: dict[str, Path], tmp_path: Path) -> None:
        kin = {"toon": files["kin"], "blend_at": (16,)}
        path = export_checkpoint(files["generator"], tmp_path / "blend", **kin, **BARE)
        assert read_manifest((path / "manifest.json").read_bytes(), "it").generators == {
            "photo": "synthesis",
            "toon": "synthesis-toon",
        }

    def test_gray_generator(self, bundles: Callable[[str], Bundle]) -> None:
        codes = seeds.fill("codes", (1, 6, 16))
        want = reference.nvidia_synthesis(seeds.nvidia(image_channels=1), codes).expand(-1, 3, -1, -1)
        assert relative(bundles("gray").synthesize(codes.numpy()), want) < 1e-5

    def test_what_is_assumed_is_told(self, tmp_path: Path) -> None:
        old = {k: v for k, v in seeds.rosinality().items() if not k.startswith("noises.")}
        torch.save({"g_ema": old}, tmp_path / "550000.pt")
        steps: list[str] = []
        export_checkpoint(tmp_path / "550000.pt", tmp_path / "out", progress=steps.append, **BARE)
        assert "note: 550000.pt: it holds no noise (noises.*): noise is drawn with fixed seeds" in steps

    def test_manifest_tells_where_it_comes_from(
        self, bundles: Callable[[str], Bundle], files: dict[str, Path]
    ) -> None:
        manifest = bundles("generator").manifest
        assert (manifest.n_styles, manifest.w_dim, manifest.z_dim, manifest.image_size) == (6, 16, 16, 16)
        assert manifest.license == "CC0-1.0"
        assert manifest.encoder is None
        assert manifest.generators == {"photo": "synthesis", "toon": "synthesis-toon"}
        assert [(s.file, s.layout) for s in manifest.sources] == [
            ("generator.pt", "rosinality stylegan2"), ("toon.pt", "rosinality stylegan2"),
        ]  # fmt: skip
        assert manifest.sources[0].sha256 == hashlib.sha256(files["generator"].read_bytes()).hexdigest()
        for network in manifest.networks.values():
            assert network.parity
            assert all(p.relative_l2 <= 1e-5 for p in network.parity)
            assert network.gflop is not None
            assert network.gflop >= 0

    def test_average_spread_and_directions_are_there(self, bundles: Callable[[str], Bundle]) -> None:
        bundle = bundles("generator")
        np.testing.assert_array_equal(bundle.latent_avg, np.tile(seeds.fill("avg", (16,), 0.3), (6, 1)))
        w = reference.rosinality_mapping(
            seeds.rosinality(), torch.randn(4096, 16, generator=torch.Generator())
        )
        np.testing.assert_allclose(bundle.latent["w_std"], w.std(dim=0), rtol=0.15)
        assert list(bundle.directions) == ["direction"]

    def test_graph_is_plain_and_tells_nothing_of_this_machine(self, bundles: Callable[[str], Bundle]) -> None:
        path = bundles("generator").path / "synthesis.onnx"
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        assert {n.op_type for n in model.graph.node} <= {
            "Add", "Conv", "ConvTranspose", "Gather", "Gemm", "LeakyRelu", "MatMul", "Mul", "Reciprocal",
            "Reshape", "Split", "Sqrt", "Unsqueeze",
        }  # fmt: skip
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
        assert not any(n.metadata_props or n.doc_string for n in model.graph.node)
        constants = {t.name for t in model.graph.initializer}
        assert all(
            n.input[1] in constants for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")
        )
        assert str(Path(__file__).parent.parent.parent).encode() not in path.read_bytes()


class TestEncoder:
    def test_one_pass_code_includes_the_average(self, bundles: Callable[[str], Bundle]) -> None:
        bundle = bundles("e4e")
        content = seeds.psp_checkpoint("Encoder4Editing")
        crop = seeds.fill("crop", (1, 3, 256, 256), 0.5).clamp(-1, 1)
        tensors = seeds.encoder("Encoder4Editing", 6)
        want = reference_encoders.encode(tensors, "Encoder4Editing", 6, crop) + content["latent_avg"]
        assert bundle.manifest.encoder is not None
        assert (bundle.manifest.encoder.kind, bundle.manifest.encoder.loop) == ("Encoder4Editing", "one-pass")
        assert relative(bundle.encode(crop.numpy()), want) < 1e-5

    def test_restyle_accumulates_step_by_step(self, bundles: Callable[[str], Bundle]) -> None:
        bundle = bundles("restyle")
        content = seeds.psp_checkpoint("BackboneEncoder", in_channels=6)
        tensors, g = seeds.encoder("BackboneEncoder", 6, in_channels=6), seeds.rosinality()
        crop = seeds.fill("crop", (1, 3, 256, 256), 0.5).clamp(-1, 1)
        codes = content["latent_avg"][None]
        assert bundle.manifest.encoder is not None
        assert (bundle.manifest.encoder.loop, bundle.manifest.encoder.steps) == ("restyle", 5)
        for step, got in enumerate(bundle.encoder.trajectory(crop.numpy(), steps=3), start=1):
            picture = torch.nn.functional.adaptive_avg_pool2d(reference.rosinality_synthesis(g, codes), 256)
            pair = torch.cat([crop, picture], dim=1)
            codes = codes + reference_encoders.encode(tensors, "BackboneEncoder", 6, pair)
            assert relative(got, codes) < 1e-5, f"step {step}"


class TestModule:
    class TwoInputs(torch.nn.Module):
        def forward(self, crop: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
            w = crop.mean(dim=(2, 3)) + landmarks.mean(dim=1)
            return w[:, None].expand(-1, 2, -1)

    INPUTS = {"crop": seeds.fill("crop", (2, 3, 8, 8)), "landmarks": seeds.fill("points", (2, 468, 3))}  # noqa: RUF012

    def test_own_encoder_with_landmarks(self) -> None:
        steps: list[str] = []
        network = export_module("encoder", self.TwoInputs(), self.INPUTS, ["codes"], report=steps.append)
        assert [(t.name, t.shape) for t in network.inputs] == [
            ("crop", (1, 3, 8, 8)),
            ("landmarks", (1, 468, 3)),
        ]
        assert [(t.name, t.shape) for t in network.outputs] == [("codes", (1, 2, 3))]
        assert network.parity[0].samples == 2
        assert steps == [
            f"encoder: {s}" for s in ("run in torch", "convert to ONNX", "compare in ONNX Runtime")
        ]

    def test_error_if_onnx_runtime_disagrees(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = onnx_graph._run
        monkeypatch.setattr(
            onnx_graph, "_run", lambda *a: {k: v * np.float32(1.001) for k, v in run(*a).items()}
        )
        with pytest.raises(
            ParityError, match="network 'encoder', torch float32 -> onnxruntime float32: expected"
        ):
            export_module("encoder", self.TwoInputs(), self.INPUTS, ["codes"])


def _nothing_left(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


class TestNothingIsWrittenOnErrors:
    @pytest.mark.parametrize(
        ("checkpoint", "more", "message"),
        [
            (
                "generator",
                {"toon": "larger"},
                r"larger\.pt: expected a generator for codes \[6, 16\] and 16 px",
            ),
            ("e4e", {"generator": "larger"}, r"expected latent_avg of shape \[16\] or \[8, 16\]"),
            ("generator", {"generator": "direction"}, r"direction\.pt: expected a StyleGAN2 generator"),
        ],
    )
    def test_files_that_do_not_belong_together(
        self, files: dict[str, Path], tmp_path: Path, checkpoint: str, more: dict[str, str], message: str
    ) -> None:
        with pytest.raises(CheckpointError, match=message):
            export_checkpoint(
                files[checkpoint],
                tmp_path / "new" / "bundle",
                **{k: files[v] for k, v in more.items()},
                **BARE,
            )
        assert _nothing_left(tmp_path)

    @pytest.mark.parametrize(
        ("toon", "message"),
        [
            (None, "expected a second generator to blend with"),
            ("toon", "expected two generators of one family"),
        ],
    )
    def test_what_cannot_be_blended(
        self, files: dict[str, Path], tmp_path: Path, toon: str | None, message: str
    ) -> None:
        with pytest.raises(CheckpointError, match=message):
            export_checkpoint(
                files["generator"],
                tmp_path / "new" / "bundle",
                toon=None if toon is None else files[toon],
                blend_at=(8, 4),
                **BARE,
            )
        assert _nothing_left(tmp_path)

    def test_an_encoder_without_generator(self, tmp_path: Path) -> None:
        content = seeds.psp_checkpoint("Encoder4Editing")
        content["state_dict"] = {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
        torch.save(content, tmp_path / "encoder.pt")
        with pytest.raises(CheckpointError, match="pass one with --generator"):
            export_checkpoint(tmp_path / "encoder.pt", tmp_path / "new" / "bundle", **BARE)
        assert _nothing_left(tmp_path / "new")

    def test_an_existing_bundle_is_left_alone(self, files: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("keep")
        with pytest.raises(BundleError, match="already there"):
            export_checkpoint(files["generator"], tmp_path / "mine", **BARE)
        assert [p.name for p in tmp_path.rglob("*")] == ["mine", "notes.txt"]

    def test_failed_parity(
        self, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = onnx_graph._run
        monkeypatch.setattr(onnx_graph, "_run", lambda *a: {k: v + 1 for k, v in run(*a).items()})
        with pytest.raises(ParityError):
            export_checkpoint(files["generator"], tmp_path / "new" / "bundle", **BARE)
        assert _nothing_left(tmp_path / "new")

    def test_a_full_disk(self, files: dict[str, Path], tmp_path: Path) -> None:
        # No file may grow past 4 kB: the kernel refuses the write as it does on a full disk.
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(BundleError, match=r"cannot write .* free some space"):
                export_checkpoint(files["generator"], tmp_path / "new" / "bundle", **BARE)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, previous)
        assert _nothing_left(tmp_path / "new")

    def test_a_changed_network_is_refused_on_opening(
        self, bundles: Callable[[str], Bundle], tmp_path: Path
    ) -> None:
        import shutil

        copy = shutil.copytree(bundles("nvidia").path, tmp_path / "copy")
        with (copy / "synthesis.onnx").open("r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(b"?")
        with pytest.raises(BundleError, match=r"synthesis\.onnx: expected sha256 .*, got "):
            open_bundle(copy)


class TestCommand:
    def run(self, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.group, ["export", *arguments])
        if isinstance(result.exception, DoppelganError):  # main() turns it into one line and exit code 2
            return 2, str(result.exception)
        return result.exit_code, result.output

    def test_writes_a_bundle_and_is_quiet_in_a_pipe(self, files: dict[str, Path], tmp_path: Path) -> None:
        code, output = self.run(str(files["generator"]), "-o", str(tmp_path / "mine"), "--license", "CC0-1.0")
        assert code == 0
        assert (
            output == f"{tmp_path / 'mine'}: ready; look at it with `doppelgan bundles {tmp_path / 'mine'}`\n"
        )
        with open_bundle(tmp_path / "mine") as bundle:
            assert bundle.synthesize(bundle.latent_avg[None]).shape == (1, 3, 16, 16)

    def test_error_is_one_line_and_exits_with_2(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 cut")
        monkeypatch.setattr(
            "sys.argv", ["doppelgan", "export", str(tmp_path / "x.pt"), "-o", str(tmp_path / "new")]
        )
        with pytest.raises(SystemExit) as exit_code:
            cli.main()
        assert exit_code.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("doppelgan: error: x.pt: expected a complete torch file")
        assert error.count("\n") == 1
        assert not (tmp_path / "new").exists()

    def test_error_names_the_extra_when_torch_is_missing(
        self, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import builtins

        real = builtins.__import__

        def without_torch(name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "doppelgan.export":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without_torch)
        code, message = self.run(str(files["generator"]), "-o", str(tmp_path / "new"))
        assert code == 2
        assert 'pip install "doppelgan[export]"' in message
