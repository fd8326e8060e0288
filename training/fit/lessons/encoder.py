"""Trains the encoder: crops and face meshes of renders (and of people the generator draws) -> features and W+.

First features alone, while the generator is still learning; then also the picture that the generator makes of the estimate,
and the face mesh that the tracker finds in it.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit.clock import Budget, elapsing
from training.fit.config import Plan
from training.fit.lessons import backdrop, loop
from training.fit.losses.mesh import MeshNetwork, attention, mesh_difference, region_of
from training.fit.losses.pictures import ms_ssim, psnr, pyramid_l1
from training.fit.networks.encoder import READING_MOTION, Encoder
from training.fit.networks.precision import fast_products, maps_dtype
from training.fit.networks.stylegan2 import Mapping, Synthesis, load_generator
from training.fit.people import augment
from training.fit.people.batches import Batch, Batches, crop_pixels
from training.fit.people.data import People, picture
from training.fit.people.features import FeatureCodec
from training.fit.report import Log, half, save_sheet, save_tensors

WATCHED = (
    "yaw", "pitch", "gaze_x", "gaze_y", "jawOpen", "mouthSmileLeft", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp",
    "gender", "age", "skin_melanin", "hair_color_r", "hair=long", "hair=bald", "beard=none", "glasses=none",
)  # fmt: skip


def w_of(codec: FeatureCodec, mapping: Mapping, estimate: Tensor) -> Tensor:
    """Standardized features as estimated [n, F] -> w [n, w_dim] of what is drawn of them."""
    return mapping.skip_norm(codec.quiet_z(codec.decided(estimate)))


class EncoderToCodes(nn.Module):
    """What is shipped: crop [n,3,S,S], landmarks [n,468,3] crop pixels, memory [n,a], trust [n,1] ->
    codes [n, n_styles, w_dim], appearance [n,a].

    Appearance are the standardized features that do not move, as read or as remembered: read + trust * (memory - read). What
    is drawn of it has its choices made (`FeatureCodec.decided`); what is remembered keeps its doubts.
    """

    def __init__(self, encoder: Encoder, codec: FeatureCodec, mapping: Mapping, offset_scale: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.codec, self.mapping, self.offset_scale = encoder, codec, mapping, offset_scale
        self.moving, self.still = codec.columns("motion"), codec.columns_outside("motion")
        self.order = torch.tensor([*self.moving, *self.still]).argsort().tolist()  # back to the features' own

    def forward(self, crop: Tensor, landmarks: Tensor, memory: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
        estimate, offset = self.encoder(crop, landmarks)
        read = estimate[:, self.still]
        appearance = read + trust * (memory - read)
        known = torch.cat([estimate[:, self.moving], appearance], 1)[:, self.order]
        w = w_of(self.codec, self.mapping, known)
        return w[:, None] + offset * self.offset_scale, appearance


def load_encoder(path: Path) -> Encoder:
    """The saved encoder, in evaluation mode."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    encoder = Encoder(**content["settings"])
    encoder.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in content["encoder"].items()})
    return encoder.eval()


class Trainer:
    def __init__(
        self,
        plan: Plan,
        codec: FeatureCodec,
        people: People,
        out: Path,
        mesh: Path | None,
        device: torch.device,
        log: Log,
    ) -> None:
        self.plan, self.lesson, self.people, self.out, self.device, self.log = (
            plan,
            plan.encoder,
            people,
            out,
            device,
            log,
        )
        self.codec = codec.to(device)
        self.dtype = maps_dtype(device)
        self.encoder = Encoder(
            plan.size, codec.columns("motion"), codec.count, 2 * len(plan.generator.channels), plan.generator.w_dim,
            self.lesson.widths, self.lesson.depths, thumbnail=self.lesson.thumbnail, backdrop=codec.columns("background"),
        ).to(device)  # fmt: skip
        self.average = copy.deepcopy(self.encoder).requires_grad_(False).eval()
        parts = [getattr(self.encoder, name) for name in READING_MOTION]
        self.learning: list[nn.Module] = parts if self.lesson.motion_only else [self.encoder]
        self.tuned: dict[str, Tensor] | None = None  # the encoder that is tuned, if only parts of it learn
        self.encoder.requires_grad_(False)
        for part in self.learning:
            part.requires_grad_(True)
        self.encoder.backdrop.requires_grad_(False)  # it learns by itself, also in a run that is resumed
        self.optimizer = torch.optim.AdamW(
            self.encoder.parameters(),
            lr=self.lesson.lr,
            betas=(0.9, 0.99),
            weight_decay=0.01,
            fused=device.type == "cuda",
        )
        self.meshes = MeshNetwork(mesh).to(device) if mesh is not None else None
        self.batches = Batches(people, self.codec, plan, self.meshes, device)
        self.mapping: Mapping | None = None
        self.photo: Synthesis | None = None
        self.generator_seen = 0.0
        self.step = self.images = 0
        self.numbers: dict[str, Tensor] = {}
        self.weight = self._feature_weights()

    def _feature_weights(self) -> Tensor:
        """What is seen clearly and must follow counts more; clothing will hardly be shown."""
        weight = torch.ones(self.codec.count)
        for group, factor in (
            ("background", 1.0),
            ("clothing", 0.5),
            ("light", 1.0),
            ("identity", 0.8),
            ("pose", 4.0),
            ("gaze", 3.0),
        ):
            weight[self.codec.columns(group)] = factor
        weight[self.codec.columns("expression")] = 1.5
        for name in (
            "gender",
            "age",
            "skin_melanin",
            "jawOpen",
            "eyeBlinkLeft",
            "eyeBlinkRight",
            "glasses=none",
            "beard=none",
        ):
            if name in self.codec.names:
                weight[self.codec.column(name)] = 3.0
        return weight.to(self.device)

    # -- state ---------------------------------------------------------------------------------------------------------

    def save(self, budget: Budget, final: bool = False) -> None:
        state = {
            "encoder": self.encoder.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
            "step": self.step, "images": self.images, "used": budget.used,
        }  # fmt: skip
        save_tensors(self.out / "state-encoder.pt", state)
        content = {
            "settings": self.encoder.settings,
            "encoder": half(self.result()),
            "images": self.images,
            "final": final,
        }
        save_tensors(self.out / "encoder.pt", content)

    def result(self) -> dict[str, Tensor]:
        """The state to save: the running average, if motion alone learned in the rest of the encoder that it began with.

        The mean of a network's weights and of those it was tuned from often does better on strangers than either (WiSE-FT,
        Wortsman 2022).
        """
        state = self.average.state_dict()
        if self.tuned is None:
            return state
        result = {name: value.to(self.device) for name, value in self.tuned.items()}
        for name, value in state.items():
            if name.split(".")[0] in READING_MOTION and value.is_floating_point():
                result[name] = value.lerp(result[name], self.lesson.kept)
        return result

    def resume(self, path: Path, budget: Budget) -> bool:
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            for name in ("encoder", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.step, self.images = state["step"], state["images"]
            budget.resume(state["used"])
        except Exception as error:
            self.log(event="not resumed", reason=str(error)[:200])
            return False
        self.log(event="resumed", step=self.step, images=self.images, fraction=budget.fraction)
        return True

    def start_from(self, path: Path) -> None:
        """Begin with the encoder of an earlier run."""
        state = load_encoder(path).state_dict()
        own = self.encoder.state_dict()
        for network in (self.encoder, self.average):
            network.load_state_dict(taken_over(state, own))
        self.log(event="started", at=str(path), afresh=sorted(set(own) - set(state)))

    def learn_backdrop(self, seconds: float) -> None:
        """Of a new encoder or of an earlier one; from then on it stays as it is."""
        self.encoder.backdrop.requires_grad_(True)
        backdrop.learn(self.encoder, self.batches, elapsing(seconds), self.log)
        self.encoder.backdrop.requires_grad_(False)
        self.average.backdrop.load_state_dict(self.encoder.backdrop.state_dict())

    def take_generator(self) -> bool:
        """Load the newest generator, if there is one; True once there is any."""
        path = self.out / "generator-photo.pt"
        try:
            written = path.stat().st_mtime
            if written != self.generator_seen:
                content = torch.load(path, map_location="cpu", weights_only=True)
                mapping, photo = load_generator(content["g_ema"])
                self.mapping = mapping.to(self.device).requires_grad_(False)
                self.photo = photo.to(self.device).requires_grad_(False)
                self.generator_seen = written
                self.log(event="generator", images=content["images"], final=content["final"])
        except FileNotFoundError:
            pass
        except Exception as error:
            self.log(event="generator not loaded", reason=str(error)[:200])
        return self.photo is not None

    def _rows(self, w: Tensor) -> Tensor:
        return w[:, None].expand(-1, self.encoder.n_styles, -1)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def train_step(self, fraction: float) -> None:
        lesson = self.lesson
        shown = 0
        if fraction >= lesson.features_only and self.photo is not None and self.mapping is not None:
            batch, shown = self.batches.pictures(self.mapping, self.photo)
        else:
            batch = self.batches.features()
        n = len(batch["crop"])
        for group in self.optimizer.param_groups:
            group["lr"] = lesson.lr * loop.decay(fraction, lesson.decay_from) * min(1.0, (self.step + 1) / 200)

        self.encoder.eval()  # keep batch-norm statistics of frozen parts
        for part in self.learning:
            part.train()
        self.optimizer.zero_grad(set_to_none=True)
        with fast_products(self.device):
            estimate, offset = self.encoder(batch["crop"].contiguous(memory_format=torch.channels_last), batch["landmarks"])
        total = self._feature_loss(estimate, batch)
        if shown:
            total = total + self._picture_loss(estimate[:shown], offset[:shown], batch, fraction)
        total.backward()
        loop.keep_finite(self.encoder.parameters())
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
        self.optimizer.step()
        self._update_average(n)
        self.step += 1
        self.images += n

    def _feature_loss(self, estimate: Tensor, batch: Batch) -> Tensor:
        wrong = F.smooth_l1_loss(estimate, batch["target"], reduction="none", beta=1.0) * self.weight
        hidden = torch.zeros(self.codec.count, device=self.device)
        hidden[self.codec.columns("background")] = 1  # cannot be seen once it is replaced
        wrong = wrong * (1 - batch["replaced"].float()[:, None] * hidden)
        loss = wrong.mean()
        self.numbers["features"] = loss.detach()
        return loss

    def _picture_loss(self, estimate: Tensor, offset: Tensor, batch: Batch, fraction: float) -> Tensor:
        assert self.mapping is not None
        assert self.photo is not None
        lesson = self.lesson
        w = w_of(self.codec, self.mapping, estimate)
        with torch.no_grad():
            true_w = self.mapping.skip_norm(self.codec.quiet_z(batch["target"][: len(estimate)]))
            spread = true_w.var(0).mean() + 1e-6
        total = 0.2 * (w - true_w).square().mean() / spread
        self.numbers["w"] = total.detach() / 0.2
        codes = self._rows(w)
        if fraction >= lesson.offsets_from:
            # The offset explains the picture, and only what the features cannot: it does not steer them.
            codes = codes + offset
            small = offset.square().mean() / spread
            total = total + 0.5 * small
            self.numbers["offset"] = small.detach()
        drawn = self.photo(codes, dtype=self.dtype)
        weight = attention(batch["mesh"], batch["found"], drawn.shape[-1], self.lesson.attention) * batch["counts"]
        pixels = pyramid_l1(drawn, batch["real"], weight)
        total = total + pixels
        self.numbers["l1"] = pixels.detach()
        if self.meshes is not None:
            motion = self._mesh_loss(drawn, batch)
            total = total + motion
            self.numbers["mesh"] = motion.detach()
        return total

    def _mesh_loss(self, drawn: Tensor, batch: Batch) -> Tensor:
        """The tracker should find the same face in the generated picture."""
        assert self.meshes is not None
        found = batch["found"]
        wanted = torch.where(found[:, None, None], batch["mesh"], torch.rand_like(batch["mesh"]))
        got, _ = self.meshes.look(drawn, region_of(wanted))
        return mesh_difference(got, wanted, found.float())

    @torch.no_grad()
    def _update_average(self, batch: int) -> None:
        keep = 0.5 ** (batch / min(self.lesson.ema_images, 0.1 * self.images + batch))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.encoder.parameters()), 1 - keep)
        for old, new in zip(self.average.buffers(), self.encoder.buffers(), strict=True):
            old.copy_(new)

    # -- reports -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, most: int) -> dict[str, float]:
        """Held-out renders: encoder and generator against the picture, and r of some features."""
        rows = self.people.held_out_rows(most)
        score = self.people.score[rows]
        rows = rows[(score > 0.5) | (score < 0)]
        estimates: list[Tensor] = []
        values: dict[str, list[Tensor]] = {"psnr": [], "ms_ssim": [], "psnr_w": []}
        for part in rows.split(32):
            real = picture(self.people.natural, part)
            crop, landmarks = self.batches.crops(real, self.people.mesh[part], jitter=False)
            estimate, offset = self.average(crop, landmarks)
            estimates.append(estimate)
            if self.photo is not None and self.mapping is not None:
                codes = self._rows(w_of(self.codec, self.mapping, estimate))
                drawn = self.photo(codes + offset)
                values["psnr_w"].append(psnr(self.photo(codes), real))
                values["psnr"].append(psnr(drawn, real))
                values["ms_ssim"].append(ms_ssim(drawn, real))
        result = {name: float(torch.cat(parts).mean()) for name, parts in values.items() if parts}
        estimate, target = torch.cat(estimates).float(), self.codec.standardize(self.people.features[rows])
        a, b = estimate - estimate.mean(0), target - target.mean(0)
        r = (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0) + 1e-6)
        result.update({f"r_{name}": float(r[self.codec.column(name)]) for name in WATCHED if name in self.codec.names})
        return result

    @torch.no_grad()
    def sheet(self, path: Path, count: int = 10) -> None:
        """Rows: held-out renders, what the encoder sees of them as by a bad camera, and what is made of it; then clean ones."""
        rows = self.people.held_out_rows(count)
        real = picture(self.people.natural, rows)
        lines = [real]
        for dirty in (True, False):
            crop, landmarks = self.batches.crops(real, self.people.mesh[rows], jitter=dirty)
            if dirty:
                crop, _ = augment.camera(crop, crop[:, :, 0, :0], clean=0.0)
                lines.append(crop)
            if self.photo is not None and self.mapping is not None:
                estimate, offset = self.average(crop, landmarks)
                lines.append(self.photo(self._rows(w_of(self.codec, self.mapping, estimate)) + offset))
        save_sheet(path, lines, cell=min(self.plan.size, 128))


def taken_over(state: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of an earlier encoder for one that may have more inputs to a linear layer: last, and not listened to yet.

    Offsets speak of a generator's own codes, which need not be the present ones: they begin afresh.
    """
    kept = {}
    for name, value in state.items():
        if value.ndim == 2 and value.shape != like[name].shape:
            value = F.pad(value, (0, like[name].shape[1] - value.shape[1]))
        if value.shape == like[name].shape and not name.startswith("offset.2."):
            kept[name] = value
    return {**like, **kept}


def run(
    plan: Plan,
    out: Path,
    cache: Path,
    mesh: Path | None,
    budget: Budget,
    device: torch.device,
    seed: int,
    start: Path | None = None,
) -> None:
    """The encoder's whole training, in a process of its own beside the generator's."""
    torch.manual_seed(seed + 1)
    np.random.seed(seed + 1)
    log = Log(out / "log-encoder.jsonl", job="encoder")
    codec = FeatureCodec.load(out / "features.npz")
    people = People(cache, plan.size, codec.count, plan.capacity, plan.held_out, device, ("photo",))
    people.wait(plan.encoder.start_people, plan.wait_minutes)
    trainer = Trainer(plan, codec, people, out, mesh, device, log)
    eligible = trainer.batches.eligible
    if plan.encoder.motion_only and start is not None:
        trainer.tuned = load_encoder(start / "encoder.pt").state_dict()
    if trainer.resume(out / "state-encoder.pt", budget):
        pass
    elif start is not None:
        trainer.start_from(start / "encoder.pt")
        trainer.learn_backdrop(plan.encoder.backdrop_share * budget.seconds)
    else:
        rows = torch.from_numpy(eligible[max(eligible)][:4000]).to(device)
        statistics = crop_pixels(people.mesh[rows], plan.size)
        trainer.encoder.set_landmark_statistics(statistics)
        trainer.average.set_landmark_statistics(statistics)
        trainer.learn_backdrop(plan.encoder.backdrop_share * budget.seconds)
    log(
        event="start",
        people=people.count,
        eligible={str(size): len(rows) for size, rows in eligible.items()},
        fraction=budget.fraction,
    )

    refreshed = time.monotonic()

    def step() -> bool:
        nonlocal refreshed
        started = time.monotonic()
        trainer.train_step(budget.fraction)
        if budget.fraction < plan.encoder.features_only:  # leave the accelerator to the generator
            if device.type == "cuda":
                torch.cuda.synchronize()
            share = plan.encoder.features_only_rate
            time.sleep(min(1.0, (time.monotonic() - started) * (1 - share) / share))
        if time.monotonic() - refreshed > 10:
            refreshed = time.monotonic()
            people.refresh()
            trainer.batches.refresh()
            if budget.fraction >= plan.encoder.features_only - 0.02:
                trainer.take_generator()
        return False

    sheet = out / "sheets" / "encoder.png"
    loop.learn(trainer, step, lambda: {"people": people.count}, plan, budget, sheet, log)
    trainer.take_generator()
    loop.finish(trainer, people.count, plan, budget, sheet, log)
