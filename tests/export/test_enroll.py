"""Enrollment on tiny networks: the tuned bundle draws the person, and everything else stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from doppelgan.export import Synthesis
from doppelgan.export.checkpoints.tensors import TensorTable
from doppelgan.export.networks.reader import SynthesisFile
from doppelgan.export.networks.stylegan2 import from_rosinality
from doppelgan.export.onnx_files.onnx_graph import to_onnx
from doppelgan.export.tuning import material, recipe, room
from doppelgan.export.tuning.enroll import Settings, enroll
from doppelgan.export.tuning.features import FaceFeatures, Looks
from doppelgan.export.tuning.material import Sample, choose, gather
from doppelgan.export.tuning.recipe import Recipe, State, Target, fold, size_at, start, tune
from doppelgan.export.tuning.weights import face_weights
from doppelgan.runtime.bundle import BundleWriter, open_bundle
from doppelgan.runtime.encode import IdentityLock
from doppelgan.runtime.errors import BackendError, BundleError, SinkError, SourceError
from doppelgan.runtime.manifest import EncoderInfo, Tensor
from doppelgan.runtime.pictures import write_image
from doppelgan.runtime.pictures.drawing import resized
from doppelgan.runtime.pipeline import Pipeline
from doppelgan.runtime.source import open_source
from doppelgan.runtime.track import Expression
from doppelgan.runtime.types import Image

from .. import tiny
from ..runtime.media import Pictures, write_media
from . import seeds

CHANNELS = {4: 8, 8: 6}  # 4 rows of codes, as the tiny encoders answer with
QUICK = Recipe(steps=60, rate=3e-2, near_codes=4, warm=3)


@pytest.fixture(scope="module")
def generator() -> bytes:
    weights = from_rosinality(TensorTable(seeds.rosinality(CHANNELS, w_dim=tiny.W_DIM), "generator", "seeds"))
    return to_onnx(Synthesis(weights), {"codes": torch.zeros(1, tiny.STYLES, tiny.W_DIM)}, ["image"])


@pytest.fixture(scope="module")
def base(generator: bytes, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A base by the kind of its encoder: plain, remembers, restyle, none."""
    folder = tmp_path_factory.mktemp("bases")

    def write(kind: str) -> Path:
        path = folder / kind
        if path.exists():
            return path
        codes = Tensor("codes", "float32", (1, tiny.STYLES, tiny.W_DIM))
        image = Tensor("image", "float32", (1, 3, 8, 8))
        fields = {"n_styles": tiny.STYLES, "w_dim": tiny.W_DIM, "image_size": 8, "license": "test"}
        with open_bundle("demo") as demo, BundleWriter(path, name=kind, **fields) as bundle:
            bundle.add_network("synthesis", generator, (codes,), (image,))
            bundle.add_generator("photo", "synthesis")
            for name in ("detector", "landmarks"):
                network = demo.manifest.networks[name]
                bundle.add_network(name, demo.path / network.file, network.inputs, network.outputs)
            _add_encoder(bundle, kind, codes)
            bundle.add_latent(latent_avg=np.zeros((tiny.STYLES, tiny.W_DIM)), w_std=np.ones(tiny.W_DIM))
            for direction in tiny.directions():
                bundle.add_direction(direction)
        return path

    return write


def _add_encoder(bundle: BundleWriter, kind: str, codes: Tensor) -> None:
    crop = Tensor("crop", "float32", (1, 6 if kind == "restyle" else 3, tiny.SIZE, tiny.SIZE))
    if kind == "remembers":
        one = {name: Tensor(name, "float32", (1, 1)) for name in ("memory", "trust", "appearance")}
        inputs, outputs = (crop, one["memory"], one["trust"]), (codes, one["appearance"])
        bundle.add_network("encoder", tiny.remembering_encoder(), inputs, outputs)
    elif kind == "restyle":
        bundle.add_network("encoder", tiny.residual_encoder(), (crop,), (codes,))
    elif kind == "plain":
        bundle.add_network("encoder", tiny.encoder(), (crop,), (codes,))
    if kind != "none":
        bundle.add_encoder(
            EncoderInfo("tiny", "restyle", 3) if kind == "restyle" else EncoderInfo("tiny"), tiny.SIZE
        )


@pytest.fixture(scope="module")
def frames() -> list[Image]:
    """Of the embedded clip: one rendered person who moves."""
    with open_bundle("demo") as demo, open_source(str(demo.path / "clip.mp4")) as clip:
        return [frame.image for frame in clip if frame.index % 15 == 0]


@pytest.fixture(scope="module")
def picture(frames: list[Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "person.png"
    write_image(path, frames[0])
    return path


def error_of(folder: Path, frame: Image) -> float:
    """Mean square between the person's crop and what the bundle draws of it."""
    with open_bundle(folder, backend="onnxruntime") as bundle:
        pipeline = Pipeline(bundle, smoothing=False, composite="replace")
        pipeline.process(frame)
        (person,) = pipeline.people.values()
        assert person.crop is not None
        assert person.picture is not None
        real = person.crop.pixels[0].reshape(3, 8, 2, 8, 2).mean((2, 4))
        return float(np.square(real - person.picture.clip(-1, 1)).mean())


@pytest.mark.parametrize("kind", ["plain", "remembers", "restyle"])
def test_the_bundle_of_a_person_draws_them(
    kind: str, base: Callable[[str], Path], picture: Path, frames: list[Image], tmp_path: Path
) -> None:
    settings = Settings(base=str(base(kind)), recipe=QUICK, consent="themselves")
    enrollment = enroll([str(picture)], tmp_path / "me", settings)
    before, after = error_of(base(kind), frames[0]), error_of(tmp_path / "me", frames[0])
    assert after < 0.65 * before
    assert enrollment.steps == QUICK.steps
    assert enrollment.psnr_db[1] > enrollment.psnr_db[0] + 2
    assert not (tmp_path / "me.enrolling").exists()
    with open_bundle(tmp_path / "me") as me, open_bundle(base(kind)) as old:
        assert me.manifest.enrollment == enrollment
        assert enrollment.consent == "themselves"
        assert enrollment.base_sha256 == old.manifest.networks["synthesis"].sha256
        assert me.manifest.networks["synthesis"].parity[0].relative_l2 < 1e-4
        changed = {
            name
            for name, n in me.manifest.networks.items()
            if n.sha256 != old.manifest.networks.get(name, n).sha256
        }
        assert changed == {"synthesis"}
        assert set(me.directions) == set(old.directions)
        assert "picture" not in me.manifest.files


def test_a_drivers_looks_do_not_leak_in(base: Callable[[str], Path], picture: Path, tmp_path: Path) -> None:
    """Appearance (red) is the enrolled person's whoever drives; motion (green) is the driver's."""
    enroll(
        [str(picture)], tmp_path / "me", Settings(base=str(base("remembers")), recipe=replace(QUICK, steps=1))
    )
    with open_bundle(tmp_path / "me") as me:
        own = me.latent["appearance"][0]
        crop = np.full((1, 3, tiny.SIZE, tiny.SIZE), 0.9, np.float32)
        lock = me.encoder.new_lock()
        for time_s in (0.0, 1.0, 30.0):
            lock.advance(time_s)
            codes = me.encoder(crop, lock=lock)
            np.testing.assert_allclose(codes[0, :, 0], own, atol=1e-6)
            np.testing.assert_allclose(codes[0, :, 1], 0.9, atol=1e-6)
        np.testing.assert_allclose(me.encode(crop), codes, atol=1e-6)


def test_a_loop_goes_on_looking_at_what_the_base_draws(
    base: Callable[[str], Path], picture: Path, tmp_path: Path
) -> None:
    enroll([str(picture)], tmp_path / "me", Settings(base=str(base("restyle")), recipe=QUICK))
    crop = np.random.default_rng(0).uniform(-1, 1, (1, 3, tiny.SIZE, tiny.SIZE)).astype(np.float32)
    with open_bundle(tmp_path / "me") as me, open_bundle(base("restyle")) as old:
        np.testing.assert_allclose(me.encode(crop), old.encode(crop), atol=1e-5)
        assert np.abs(me.synthesize(me.encode(crop)) - old.synthesize(old.encode(crop))).max() > 0.1


def test_an_interrupted_run_keeps_the_best_and_goes_on(
    base: Callable[[str], Path], picture: Path, tmp_path: Path
) -> None:
    def interrupt(done: int, _of: int, _cpu_s: float) -> None:
        if done == 7:
            raise KeyboardInterrupt

    settings = Settings(base=str(base("plain")), recipe=QUICK)
    assert enroll([str(picture)], tmp_path / "me", settings, on_step=interrupt).steps == 7
    assert (tmp_path / "me.enrolling" / "progress.png").exists()
    seen: list[int] = []
    again = replace(settings, resume=True)
    enrollment = enroll([str(picture)], tmp_path / "me", again, on_step=lambda done, *_: seen.append(done))
    assert seen == list(range(8, QUICK.steps + 1))
    assert enrollment.steps == QUICK.steps
    assert not (tmp_path / "me.enrolling").exists()
    with pytest.raises(BundleError, match="run to resume, got none"):
        enroll(["nothing.png"], tmp_path / "me", again)  # before the pictures are read
    with pytest.raises(BundleError, match="already there"):
        enroll([str(picture)], tmp_path / "me", settings)


def test_the_picture_is_kept_only_if_asked_for(
    base: Callable[[str], Path], picture: Path, tmp_path: Path
) -> None:
    settings = Settings(base=str(base("plain")), recipe=replace(QUICK, steps=1), keep_picture=True)
    enroll([str(picture)], tmp_path / "me", settings)
    with open_bundle(tmp_path / "me") as me:
        assert (me.path / me.manifest.files["picture"].file).is_file()


def test_what_cannot_be_enrolled_is_refused_and_leaves_nothing(
    base: Callable[[str], Path], frames: list[Image], tmp_path: Path
) -> None:
    face = frames[0]
    small = np.full((600, 600, 3), 127, np.uint8)
    small[200:281, 200:344] = face[:540:6, :960:6][:81, :144]
    small = small[:500]
    pictures = {
        "no face": np.full((200, 200, 3), 127, np.uint8),
        "two faces": np.hstack([face, face]),
        "a small face": np.ascontiguousarray(face[::7, ::7]),
    }
    output = tmp_path / "out" / "me"
    for reason, image in pictures.items():
        write_image(tmp_path / f"{reason}.png", image)
        with pytest.raises(SourceError, match=reason):
            enroll([str(tmp_path / f"{reason}.png")], output, Settings(base=str(base("plain")), recipe=QUICK))
    write_image(tmp_path / "face.png", face)
    with pytest.raises(BundleError, match="with an encoder"):
        enroll([str(tmp_path / "face.png")], output, Settings(base=str(base("none")), recipe=QUICK))
    assert not output.parent.exists()


def test_too_little_memory_is_said_before_the_work(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_f = tuple(seeds.CONFIG_F.values())
    assert room.bytes_needed(config_f, 512, 1024) > room.bytes_needed(config_f, 512, 256) > 2**30
    monkeypatch.setattr(room, "available_bytes", lambda: 2**20)
    with pytest.raises(BackendError, match="smaller --size"):
        enroll(["nothing.png"], tmp_path / "me", Settings(base=str(base("plain"))))


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = room.available_bytes()
    monkeypatch.setattr(room, "CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 50000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert unlimited is None or room.available_bytes() > 2**20  # type: ignore[operator]
    (tmp_path / "memory.max").write_text("1000000\n")
    assert room.available_bytes() == 350000


def test_memory_that_runs_out_on_the_way_is_said_in_a_line(
    base: Callable[[str], Path], picture: Path, tmp_path: Path
) -> None:
    def refuse(message: str) -> Callable[..., None]:
        def step(*_: object) -> None:
            raise RuntimeError(message)

        return step

    settings = Settings(base=str(base("plain")), recipe=QUICK)
    full = refuse("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1048576 bytes")
    with pytest.raises(BackendError, match="smaller --size"):
        enroll([str(picture)], tmp_path / "me", settings, on_step=full)
    with pytest.raises(RuntimeError, match="shapes"):  # a fault of ours stays one
        enroll([str(picture)], tmp_path / "me", settings, on_step=refuse("shapes do not match"))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(base=str(base("plain")))
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="expected a folder that can be written to"):
        enroll(["nothing.png"], tmp_path / "file" / "me", settings)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(SinkError, match="of free space"):
        enroll(["nothing.png"], tmp_path / "me", settings)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_head_turned_away_is_refused(frames: list[Image]) -> None:
    with open_bundle("demo") as demo:
        pipeline = Pipeline(demo, smoothing=False)
        pipeline.process(frames[0])
    (face,) = (person.face for person in pipeline.people.values())
    assert face is not None
    assert material._unusable([face]) is None
    middle = face.landmarks.mean(0)
    for degrees, axes in ((55, (0, 2)), (-55, (0, 2)), (55, (1, 2))):
        turn = np.eye(3)
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn[np.ix_(axes, axes)] = [[cosine, -sine], [sine, cosine]]
        turned = replace(face, landmarks=((face.landmarks - middle) @ turn.T + middle).astype(np.float32))
        reason = material._unusable([turned])
        assert reason is not None
        assert "turned away: expected at most 40 degrees" in reason


def module_of(generator: bytes, folder: Path):
    path = folder / "synthesis.onnx"
    path.write_bytes(generator)
    return SynthesisFile(path).module()


def target(seed: int, row: float = 0.0) -> Target:
    random = torch.Generator().manual_seed(seed)
    code = torch.randn(1, tiny.STYLES, tiny.W_DIM, generator=random)
    return Target(code + row, torch.rand(1, 3, 8, 8, generator=random) * 2 - 1, torch.ones(1, 1, 8, 8))


def test_folding_the_offset_changes_no_picture(generator: bytes, tmp_path: Path) -> None:
    module = module_of(generator, tmp_path)
    codes, offset = target(1).code, 0.3 * target(2).code
    with torch.no_grad():
        torch.testing.assert_close(fold(module, offset)(codes), module(codes + offset), rtol=1e-4, atol=1e-5)


def test_what_the_base_changes_is_kept(generator: bytes, tmp_path: Path) -> None:
    """The more the base's changes count, the nearer those of the tuned generator are to them."""
    base, one = module_of(generator, tmp_path), target(3)
    near = one.code + 0.5 * torch.randn(6, *one.code.shape[1:], generator=torch.Generator().manual_seed(5))

    def strayed(weight: float) -> float:
        recipe = replace(QUICK, near=weight, steps=40)
        tuned = tune(start(base, recipe), base, [one], near, recipe).module
        with torch.no_grad():
            change = (tuned(near) - tuned(one.code)) - (base(near) - base(one.code))
        return float(change.abs().mean())

    assert strayed(8.0) < 0.6 * strayed(0.0)


def test_held_out_frames_stop_it_and_the_best_is_kept(generator: bytes, tmp_path: Path) -> None:
    """What is held out contradicts what is tuned on: more steps only make it worse."""
    base, one = module_of(generator, tmp_path), target(3)
    with torch.no_grad():
        held_out = Target(one.code, base(one.code).clamp(-1, 1), one.weight)
    recipe = replace(QUICK, steps=200, judge_every=2, patience=3, near=0.0)
    state: State = start(base, recipe)
    outcome = tune(state, base, [one], one.code[:0], recipe, held_out=[held_out])
    assert outcome.stopped == "no more gain"
    assert outcome.steps == 8
    assert state.best_loss == min(state.losses) == state.losses[0]


def test_a_bad_stretch_of_a_clip_does_not_stop_it(
    generator: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the rate is high the held-out loss rises and falls; the losses are those of a clip."""
    losses = [0.243, 0.213, 0.219, 0.232, 0.233, 0.228, 0.224, 0.216, 0.241, 0.203, *[0.21] * 20]
    base, one = module_of(generator, tmp_path), target(3)
    state = start(base, Recipe())
    monkeypatch.setattr(recipe, "pyramid_l1", lambda *_: torch.tensor(losses[len(state.losses)]))
    going = [recipe._still_gaining(state, [one], Recipe()) for _ in losses]
    assert all(going[:10])
    assert state.best_loss == pytest.approx(0.203)
    assert not going[-1]  # but it does stop in the end


def test_more_frames_take_more_steps() -> None:
    assert [recipe.usual_steps(frames) for frames in (1, 2, 3)] == [150, 172, 194]
    assert recipe.usual_steps(material.MOST) == recipe.usual_steps(10 * material.MOST) == 1000


def test_sizes_grow_to_the_full_one() -> None:
    recipe = Recipe(small=0.2, half=0.6)
    assert [size_at(done, recipe, 1024) for done in (0, 0.19, 0.25, 0.35, 0.55, 0.6, 0.99)] == [
        64,
        64,
        128,
        256,
        512,
        1024,
        1024,
    ]
    assert {size_at(done, recipe, 256) for done in np.linspace(0, 0.99, 50)} == {64, 128, 256}
    assert {size_at(done, recipe, 32) for done in np.linspace(0, 0.99, 50)} == {32}


def test_frames_are_chosen_for_what_they_add(frames: list[Image], tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    for i, frame in enumerate([*frames, *([frames[0]] * 6)]):
        write_image(folder / f"{i:02}.png", frame)
    blurred = resized(resized(frames[3], (96, 54)), (960, 540))
    write_image(folder / "99.png", blurred)
    with open_bundle("demo") as demo:
        material = gather([str(folder)], demo, most=6)
        everyone = gather([str(folder)], demo, most=100)
    names = {sample.name.partition("#")[2] for sample in material.chosen}
    assert len(material.chosen) == 6
    assert (
        len(names & {"0", *map(str, range(len(frames), len(frames) + 6))}) <= 1
    )  # the same frame is not taken twice
    assert everyone.left_out.get("blurred", 0) + everyone.left_out.get("no face", 0) == 1
    assert len(everyone.held_out) == len(everyone.chosen + everyone.held_out) // 6


def test_the_usual_face_comes_first_not_the_calmest() -> None:
    def sample(name: str, **moves: float) -> Sample:
        calm = {field.name: 0.0 for field in fields(Expression)}
        calm |= {"eye_open_right": 0.12, "eye_open_left": 0.12, "brow_right": 0.2, "brow_left": 0.2}
        return Sample(None, None, Expression(**calm | moves), 1.0, 1.0, name)  # type: ignore[arg-type]

    usual = [sample(f"usual {i}", mouth_open=0.06, yaw=0.01 * i) for i in range(1, 9)]
    odd = sample("lips drawn in", smile=-0.12, brow_right=0.28, brow_left=0.28)
    talking = sample("talking", mouth_open=0.2)
    turned = sample("turned", mouth_open=0.06, yaw=0.4)
    blinking = sample("blinking", mouth_open=0.06, eye_open_right=0.03)
    assert choose([odd, talking, turned, blinking, *usual], 3)[0].name == "usual 1"
    assert choose([talking, turned, blinking, sample("calm")], 3)[0].name == "calm"


def test_what_the_tracker_sees_counts(
    generator: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the pixels, which are the same in both runs."""

    class Bright:
        def difference(self, drawn: torch.Tensor, looks: list[Looks]) -> torch.Tensor:
            assert len(looks) == len(drawn)
            return (drawn.mean() - 0.9).abs()

    monkeypatch.setattr(recipe, "LEAST_PX", 8)
    base, one = module_of(generator, tmp_path), target(3)
    seen = replace(one, looks=Looks(torch.zeros(1, 4), ()))

    def brightness(weight: float, one: Target) -> float:
        settings = replace(QUICK, features=weight)
        tuned = tune(start(base, settings), base, [one], one.code[:0], settings, features=Bright()).module  # type: ignore[arg-type]
        with torch.no_grad():
            return float(tuned(one.code).mean())

    assert brightness(20.0, seen) > brightness(0.0, seen) + 0.2
    assert brightness(20.0, one) == brightness(0.0, one)  # nothing is known of what it sees


def test_the_face_mesh_network_tells_faces_apart(frames: list[Image]) -> None:
    with open_bundle("demo") as demo:
        features = FaceFeatures.load(demo.path / demo.manifest.networks["landmarks"].file)
        pipeline = Pipeline(demo, smoothing=False)
        crops = []
        for frame in frames[:2]:
            pipeline.process(frame)
            crops += [person.crop for person in pipeline.people.values()]
    assert features is not None
    pictures = [torch.from_numpy(crop.pixels.copy()) for crop in crops]
    looks = features.looks(pictures[0], crops[0].landmarks / crops[0].size)
    drawn = pictures[1].clone().requires_grad_(True)
    apart = features.difference(drawn, [looks])
    assert float(features.difference(pictures[0], [looks])) < 1e-4
    assert apart.item() > 0.05
    apart.backward()
    assert float(drawn.grad.abs().max()) > 0  # type: ignore[union-attr]


def test_the_face_counts_most(frames: list[Image]) -> None:
    with open_bundle("demo") as demo:
        pipeline = Pipeline(demo, smoothing=False)
        pipeline.process(frames[0])
        (person,) = pipeline.people.values()
    assert person.crop is not None
    points = person.crop.landmarks
    weights, even = (face_weights(points, 256, spots=spots)[0] for spots in (3.0, 0.0))

    def at(index: int, weights: np.ndarray = weights) -> float:
        x, y = points[index, :2].round().astype(int)
        return float(weights[y, x])

    nose, cheek, forehead, pupil, upper_lip, brow = 1, 50, 151, 159, 0, 105
    assert at(nose, even) == at(pupil, even) == pytest.approx(1.0)
    assert at(forehead) == pytest.approx(1.0, abs=0.05)
    assert at(cheek) < 1.2 < 2.2 < min(at(pupil), at(upper_lip), at(brow))
    assert weights[2, 2] == even[2, 2] == pytest.approx(0.25)
    assert weights.min() >= 0.25


def test_relative_motion_starts_at_the_person(
    base: Callable[[str], Path], picture: Path, frames: list[Image], tmp_path: Path
) -> None:
    """A plain encoder cannot tell looks from motion: another color does not color the person."""
    enroll([str(picture)], tmp_path / "me", Settings(base=str(base("plain")), recipe=replace(QUICK, steps=1)))
    tinted = [np.clip(frame + np.array([60, 0, -60]), 0, 255).astype(np.uint8) for frame in frames]
    with open_bundle(tmp_path / "me") as me:
        pivot = me.latent["pivot"]
        moved = Pipeline(me, composite="replace")
        absolute = Pipeline(me, composite="replace", motion="absolute")
        for pipeline in (moved, absolute):
            pipeline.process(tinted[0], 0.0)
        (person,), (other,) = moved.people.values(), absolute.people.values()
        assert person.own_codes is not None
        assert other.own_codes is not None
        np.testing.assert_allclose(person.own_codes[0], pivot, atol=1e-5)
        assert np.abs(other.own_codes[0] - pivot).max() > 0.05


def test_an_appearance_to_start_from_must_fit() -> None:
    with pytest.raises(ValueError, match="appearance of 3"):
        IdentityLock(3, start=np.zeros(4, np.float32))


def test_a_person_is_read_from_an_anamorphic_film_as_it_is_displayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    class Looking:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def update(self, image: Image, time_s: float) -> list[Any]:
            shapes.append(image.shape)
            return []

    monkeypatch.setattr(material, "Tracker", Looking)
    path = write_media(tmp_path / "in.mp4", Pictures(frames=2, aspect=Fraction(2)))
    bundle: Any = SimpleNamespace(session=lambda name: None, crop_size=16)
    with pytest.raises(SourceError, match="got none in 2 frames"):
        gather([str(path)], bundle)
    assert shapes == [(48, 128, 3)] * 2
