"""Trains mapping, photo synthesis and toon synthesis on pairs of renders whose features are known.

First with a weighted pyramid of L1 differences, growing from low resolution to full; then also against two discriminators
(conditioned on the features) whose feature maps are matched.
"""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.fit.clock import Budget, elapsing
from training.fit.config import LOOKS, GeneratorPlan, Plan, Stage
from training.fit.lessons import loop, mapping, rehearsal
from training.fit.lessons.mapping import Earlier
from training.fit.lessons.rehearsal import Rehearsal
from training.fit.losses.mesh import MeshNetwork, attention, mesh_difference
from training.fit.losses.pictures import feature_matching, ms_ssim, psnr, pyramid_l1, structure
from training.fit.networks.discriminator import Discriminator
from training.fit.networks.family import grow_out, share
from training.fit.networks.precision import maps_dtype
from training.fit.networks.stylegan2 import Mapping, Synthesis, generator_state, load_generator
from training.fit.networks.widen import widened
from training.fit.optimizers import MuonAndAdam
from training.fit.people.data import People, batch, picture
from training.fit.people.features import FeatureCodec
from training.fit.people.variants import Backgrounds, Batch, Mirror, Rarity
from training.fit.report import Log, half, save_sheet, save_tensors

_WARM_STEPS = 50  # until the rate is full: an optimizer's first steps are its wildest
_SEEN_FROM = 128  # pixels; smaller pictures show the tracker no face


class Generator(nn.Module):
    """Both generators with their common mapping network."""

    def __init__(self, plan: GeneratorPlan, codec: FeatureCodec) -> None:
        super().__init__()
        self.mapping = Mapping(plan.w_dim, plan.mapping_layers, codec.conditioning(), plan.feature_noise)
        self.photo = Synthesis(plan.channels, plan.w_dim)
        self.toon = Synthesis(plan.channels, plan.w_dim)
        if plan.shared_up_to:
            share(self.photo, self.toon, plan.shared_up_to)

    def look(self, name: str) -> Synthesis:
        network = getattr(self, name)
        assert isinstance(network, Synthesis)
        return network

    def codes(self, z: Tensor) -> Tensor:
        """z [n, z_dim] -> one code for every row [n, n_styles, w_dim]: w, as the looks are told it."""
        w = self.mapping(z)
        return w[:, None].expand(-1, self.photo.n_styles, -1)


class Trainer:
    def __init__(
        self, plan: Plan, codec: FeatureCodec, people: People, out: Path, mesh: Path | None, device: torch.device, log: Log
    ) -> None:
        self.plan, self.lesson, self.people, self.out, self.device, self.log = (
            plan,
            plan.generator,
            people,
            out,
            device,
            log,
        )
        self.codec = codec.to(device)
        self.dtype = maps_dtype(device)
        lesson = self.lesson
        self.model = Generator(lesson, codec).to(device)
        self.discriminators = nn.ModuleDict(
            {look: Discriminator(lesson.discriminator_channels, codec.count) for look in LOOKS}
        ).to(device)
        self.meshes = MeshNetwork(mesh).to(device) if mesh is not None else None
        self.mirror, self.backgrounds = Mirror(self.codec, device), Backgrounds(self.codec, device)
        self.rarity = Rarity(self.codec, lesson.rare)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        looks = {id(p): (name, p) for look in LOOKS for name, p in self.model.look(look).named_parameters()}
        mapping_lr = lesson.lr * lesson.mapping_rate
        groups = [
            {"params": self.model.mapping.named_parameters(), "lr": mapping_lr, "peak": mapping_lr},
            {"params": list(looks.values()), "lr": lesson.lr, "peak": lesson.lr},
        ]
        self.optimizer = MuonAndAdam(groups, betas=(0.8, 0.99))
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminators.parameters(),
            lr=lesson.discriminator_lr,
            betas=(0.0, 0.99),
            eps=1e-8,
            fused=True,
        )
        # Two cores serve two looks better than both serve one: feature maps are small.
        apart = not lesson.shared_up_to  # gradients of shared layers add up one after the other
        side_by_side = device.type == "cpu" and torch.get_num_threads() >= len(lesson.learning) > 1 and apart
        self.each_look = (
            ThreadPoolExecutor(len(LOOKS), initializer=torch.set_num_threads, initargs=(1,)) if side_by_side else None
        )
        # The mapping network is shared: freeze it unless every look is trained.
        self.model.mapping.requires_grad_(lesson.learning == LOOKS)
        self.step = self.images = self.discriminator_steps = 0
        self.balance = dict.fromkeys(LOOKS, 0.0)
        self.squared = 0.0
        self.numbers: dict[str, Tensor] = {}
        self.last_stage: Stage | None = None
        self.rehearsal: Rehearsal | None = None

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self, budget: Budget) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "discriminators": self.discriminators.state_dict(),
            "optimizer": self.optimizer.state_dict(), "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "step": self.step, "images": self.images, "discriminator_steps": self.discriminator_steps, "balance": self.balance,
            "used": budget.used, "codec": self.codec.state_dict(),
        }  # fmt: skip

    def resume(self, path: Path, budget: Budget) -> bool:
        """Take up where a killed run stopped; a damaged or foreign state is reported and ignored."""
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            for name in ("model", "average", "discriminators", "optimizer", "discriminator_optimizer", "codec"):
                getattr(self, name).load_state_dict(state[name])
            self.step, self.images, self.discriminator_steps = state["step"], state["images"], state["discriminator_steps"]
            self.balance = state["balance"]
            budget.resume(state["used"])
        except Exception as error:
            self.log(event="not resumed", reason=str(error)[:200])
            return False
        self.log(event="resumed", step=self.step, images=self.images, fraction=budget.fraction)
        return True

    def start(self, folder: Path | None, seconds: float, sketches: Path | None) -> None:
        """Before the first step: the mapping network learns by itself, from the networks of an earlier run if there are any."""
        earlier: Earlier | None = None
        looks: dict[str, Synthesis] = {}
        if folder is not None:
            earlier, looks = self._load(folder)
            before, wanted = earlier.mapping.shape, self.model.mapping.shape
            if before == wanted and earlier.codec.names == self.codec.names:
                self.model.mapping.load_folded(earlier.mapping.state_dict())
            elif not seconds:
                raise ValueError(
                    f"{folder}: its mapping network has (width, layers) {before} and {earlier.codec.count} features, the plan "
                    f"{wanted} and {self.codec.count}; "
                    "expected the same, or a plan with a mapping_share, in which the new one learns the old one's codes"
                )
        old_from_new = None
        if seconds > 0:
            time_there_is = elapsing(seconds)
            old_from_new = mapping.learn(self.model.mapping, self.codec, self.people, time_there_is, earlier, sketches, self.log)
        if self.lesson.shared_up_to and looks:
            looks = {"photo": looks["photo"]}
        for look, narrow in looks.items():
            synthesis = widened(narrow, self.lesson.channels)
            if old_from_new is not None:
                mapping.take_over(self.model.look(look), synthesis, old_from_new)
            else:
                self.model.look(look).load_state_dict(synthesis.state_dict())
        if self.lesson.shared_up_to and looks:
            grow_out(self.model.photo, self.model.toon)
        self.average.load_state_dict(self.model.state_dict())
        self.log(event="started", at=str(folder), **self.evaluate(64))

    def rehearse(self, folder: Path) -> None:
        """From now on, people whom the generator in `folder` draws are among those to learn from."""
        earlier, looks = self._load(folder)
        self.rehearsal = Rehearsal(earlier, looks, self.codec, self.device, rehearsal.PEOPLE)

    def _load(self, folder: Path) -> tuple[Earlier, dict[str, Synthesis]]:
        looks = {}
        for look in LOOKS:
            state = torch.load(folder / f"generator-{look}.pt", map_location=self.device, weights_only=True)["g_ema"]
            earlier, synthesis = load_generator(state)
            looks[look] = synthesis.to(self.device).requires_grad_(False)
        described = folder / "features.npz"
        codec = FeatureCodec.load(described) if described.exists() else self.codec
        return Earlier(earlier.to(self.device).requires_grad_(False), codec.to(self.device)), looks

    def save(self, budget: Budget, final: bool = False) -> None:
        save_tensors(self.out / "state-generator.pt", self.state(budget))
        average = self.latent_average()
        for look in LOOKS:
            state = half(generator_state(self.average.mapping, self.average.look(look)))
            content = {
                "g_ema": state,
                "latent_avg": average.half().cpu(),
                "images": self.images,
                "final": final,
            }
            save_tensors(self.out / f"generator-{look}.pt", content)

    @torch.no_grad()
    def latent_average(self) -> Tensor:
        """Mean w [w_dim] over people."""
        rows = torch.from_numpy(self.people.train[:4000]).to(self.device)
        return self.average.mapping(self.z(rows)).mean(0)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def z(self, rows: Tensor) -> Tensor:
        return self.codec.z(self.codec.standardize(self.people.features[rows]))

    def train_step(self, fraction: float) -> Stage:
        lesson = self.lesson
        self.model.mapping.noise = lesson.feature_noise * (1 - 0.85 * fraction)
        stage = [s for s in lesson.stages if s.start <= fraction][-1]
        size, count = stage.between if stage.between and self.step % 2 else (stage.size, stage.batch)
        adversary = fraction >= lesson.adversary_from and size == self.plan.size
        self.squared = lesson.squared_strength if fraction >= lesson.squared_from else 0.0
        for group in self.optimizer.param_groups:
            rate = loop.decay(fraction, lesson.decay_from) * min(1.0, (self.step + 1) / _WARM_STEPS)
            group["lr"] = group["peak"] * rate * (lesson.adversary_rate if adversary else 1.0)
        for group in self.discriminator_optimizer.param_groups:
            group["lr"] = lesson.discriminator_lr * loop.decay(fraction, lesson.decay_from)

        pairs = bool(len(self.people.pairs)) and float(torch.rand(())) < lesson.paired
        if pairs:
            rows, alike = self.people.draw_pairs(count // 2, size), 2
        else:
            rows, alike = self.people.draw(count, size, self.rarity.odds if lesson.rare else None), 1
        people = batch(self.people, rows, size)
        people = self.backgrounds.some(self.mirror.some(people, lesson.mirrored, alike), lesson.other_background, alike)
        if self.rehearsal is not None and size <= rehearsal.UP_TO and not pairs:
            again = self.rehearsal.draw(round(count * lesson.rehearsed), size, self.dtype)
            people = rehearsal.joined(people, again)
        z = self.codec.z(self.codec.standardize(people.features))
        if adversary:
            self._discriminator_step(z, {"photo": people.photo, "toon": people.toon}, size)
        self._generator_step(z, people, size, adversary, pairs)
        self._update_average(count)
        self.step += 1
        self.images += count
        self.last_stage = stage
        return stage

    def _generator_step(self, z: Tensor, people: Batch, size: int, adversary: bool, pairs: bool) -> None:
        lesson = self.lesson
        invented = int(len(z) * lesson.invented) if adversary else 0
        if invented:  # people nobody rendered: only the discriminators have an opinion
            z = torch.cat([z, self.random_z(invented)])
        codes = self.model.codes(z)
        weight = attention(people.mesh, people.found, size, lesson.attention, self.rarity.glasses(people.features))
        self.optimizer.zero_grad(set_to_none=True)
        self.discriminators.requires_grad_(False)
        # Each look goes back as far as the codes by itself, so that the two can run side by side.
        own = {look: codes.detach().requires_grad_(codes.requires_grad) for look in lesson.learning}

        def learn(look: str) -> None:
            self._look_loss(look, own[look], z, people, weight, adversary, pairs).backward()

        list(self.each_look.map(learn, own) if self.each_look else map(learn, own))
        if codes.requires_grad:
            codes.backward(torch.stack([code.grad for code in own.values() if code.grad is not None]).sum(0))
        self.discriminators.requires_grad_(True)
        loop.keep_finite(self.model.parameters())
        self.optimizer.step()

    def _look_loss(
        self, look: str, codes: Tensor, z: Tensor, people: Batch, weight: Tensor, adversary: bool, pairs: bool
    ) -> Tensor:
        lesson = self.lesson
        real = people.photo if look == "photo" else people.toon
        known = len(real)
        drawn = self.model.look(look)(codes, real.shape[-1], self.dtype)
        pixels = pyramid_l1(drawn[:known], real, weight)
        self.numbers[f"l1_{look}"] = pixels.detach()
        total = pixels + self._face_loss(look, drawn[:known], real, people.region)
        if pairs:
            wanted, everywhere = _change(real), torch.ones_like(weight[:1])
            missing = pyramid_l1(_change(drawn[:known]), wanted, everywhere)
            total = total + lesson.change_strength * missing
            self.numbers[f"missing_{look}"] = missing.detach() / pyramid_l1(wanted, torch.zeros_like(wanted), everywhere)
        if self.squared:
            total = total + self.squared * ((drawn[:known] - real).square() * weight).mean()
        if lesson.structure_strength:
            likeness = structure(drawn[:known], real, self.plan.size)
            total = total + lesson.structure_strength * likeness
            self.numbers[f"structure_{look}"] = likeness.detach()
        if not adversary:
            return total
        discriminator = self.discriminators[look]
        condition = self.condition(z)
        with torch.no_grad():
            real_maps = discriminator(real, condition[:known], self.dtype)[1]
        score, maps = discriminator(drawn, condition, self.dtype)
        matching = feature_matching([m[:known] for m in maps], real_maps)
        adversarial = F.softplus(-score).mean()
        if self.discriminator_steps % 16 == 1 or self.balance[look] == 0:
            self.balance[look] = self._balance(pixels, adversarial, drawn)
        warm = min(1.0, self.discriminator_steps / 300)
        self.numbers[f"matching_{look}"] = matching.detach()
        self.numbers[f"score_made_{look}"] = score.detach().mean()
        return total + warm * (
            lesson.matching_strength * 0.2 * matching + lesson.adversary_strength * self.balance[look] * adversarial
        )

    def _face_loss(self, look: str, drawn: Tensor, real: Tensor, region: Tensor) -> Tensor:
        """The tracker should see the same in the picture as in the render: its feature maps, and the mesh it finds."""
        if self.meshes is None or drawn.shape[-1] < _SEEN_FROM:
            return torch.zeros((), device=self.device)
        some = slice(self.lesson.faces)
        with torch.no_grad():
            wanted, score, wanted_maps = self.meshes.study(real[some], region[some])
        mesh, _, maps = self.meshes.study(drawn[some], region[some])
        maps_differ = feature_matching(maps, wanted_maps)
        mesh_differs = mesh_difference(mesh, wanted, (score > 0.5).float())
        self.numbers[f"face_{look}"], self.numbers[f"mesh_{look}"] = maps_differ.detach(), mesh_differs.detach()
        return self.lesson.face_strength * maps_differ + self.lesson.mesh_strength * mesh_differs

    def _balance(self, pixels: Tensor, adversarial: Tensor, drawn: Tensor) -> float:
        """How much the adversarial loss must be scaled for its gradient in the picture to be as large as the pixel loss's."""
        a = torch.autograd.grad(pixels, drawn, retain_graph=True)[0].norm()
        b = torch.autograd.grad(adversarial, drawn, retain_graph=True)[0].norm()
        ratio = float(a / (b + 1e-8))
        return min(10.0, ratio) if math.isfinite(ratio) else 0.0

    def _discriminator_step(self, z: Tensor, real: dict[str, Tensor], size: int) -> None:
        lesson = self.lesson
        invented = int(len(z) * lesson.invented)
        fake_z = torch.cat([z[: len(z) - invented], self.random_z(invented)]) if invented else z
        with torch.no_grad():
            codes = self.model.codes(fake_z)
            drawn = {look: self.model.look(look)(codes, size, self.dtype) for look in LOOKS}
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for look in LOOKS:
            discriminator = self.discriminators[look]
            score_real = discriminator(real[look], self.condition(z), self.dtype)[0]
            score_made = discriminator(drawn[look], self.condition(fake_z), self.dtype)[0]
            total = total + F.softplus(-score_real).mean() + F.softplus(score_made).mean()
            self.numbers[f"score_real_{look}"] = score_real.detach().mean()
            if self.discriminator_steps % lesson.r1_every == 0:
                some = real[look][: max(4, len(z) // 4)].clone().requires_grad_(True)
                score = discriminator(some, self.condition(z[: len(some)]), self.dtype)[0]
                (slope,) = torch.autograd.grad(score.sum(), some, create_graph=True)
                penalty = slope.square().sum((1, 2, 3)).mean()
                total = total + 0.5 * lesson.r1_weight * lesson.r1_every * penalty
                self.numbers[f"r1_{look}"] = penalty.detach()
        total.backward()
        loop.keep_finite(self.discriminators.parameters())
        self.discriminator_optimizer.step()
        self.discriminator_steps += 1

    def condition(self, z: Tensor) -> Tensor:
        return z[:, : self.codec.count]

    def random_z(self, n: int) -> Tensor:
        z = torch.randn(n, self.codec.z_dim, device=self.device)
        return F.normalize(z, dim=1) * math.sqrt(self.codec.z_dim)

    @torch.no_grad()
    def _update_average(self, batch: int) -> None:
        keep = 0.5 ** (batch / min(self.lesson.ema_images, 0.1 * self.images + batch))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)

    # -- reports -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, most: int) -> dict[str, float]:
        """PSNR and MS-SSIM of the averaged generator from true features, on held-out people, at full size."""
        size = self.last_stage.size if self.last_stage else self.plan.size
        rows = self.people.held_out_rows(most)
        values: dict[str, list[Tensor]] = {}
        for part in rows.split(32):
            codes = self.average.codes(self.z(part))
            for look, stored in self._stored():
                drawn, real = self.average.look(look)(codes, size, self.dtype), picture(stored, part, size)
                values.setdefault(f"psnr_{look}", []).append(psnr(drawn, real))
                values.setdefault(f"ms_ssim_{look}", []).append(ms_ssim(drawn, real))
        return {name: float(torch.cat(parts).mean()) for name, parts in values.items()}

    def _stored(self) -> list[tuple[str, Tensor]]:
        """The looks that are trained, and the pictures to compare them with."""
        return [one for one in (("photo", self.people.natural), ("toon", self.people.toon)) if one[0] in self.lesson.learning]

    @torch.no_grad()
    def sheet(self, path: Path, count: int = 10) -> None:
        """Rows: held-out renders, their reconstruction, toon renders, theirs; people from random z, photo and toon."""
        size = self.last_stage.size if self.last_stage else self.plan.size
        rows = self.people.held_out_rows(count)
        codes = self.average.codes(self.z(rows))
        torch_state = torch.random.get_rng_state()
        invented = self.average.codes(
            F.normalize(_fixed_normal(count, self.codec.z_dim), dim=1).to(self.device) * self.codec.z_dim**0.5
        )
        torch.random.set_rng_state(torch_state)
        lines = []
        for look, stored in self._stored():
            lines += [picture(stored, rows, size), self.average.look(look)(codes, size, self.dtype)]
        lines += [self.average.look(look)(invented, size, self.dtype) for look in LOOKS]
        save_sheet(path, lines, cell=min(self.plan.size, 128))


def _change(pairs: Tensor) -> Tensor:
    """From the low ends to the high ends of pairs [2 n, ...]."""
    low, high = pairs.chunk(2)
    return high - low


def _fixed_normal(n: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(7).standard_normal((n, width), np.float32))


def run(
    plan: Plan,
    out: Path,
    cache: Path,
    budget: Budget,
    device: torch.device,
    seed: int,
    mesh: Path | None = None,
    start: Path | None = None,
    sketches: Path | None = None,
    rehearsed: Path | None = None,
) -> None:
    """The generator's whole training, in a process of its own."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    log = Log(out / "log-generator.jsonl", job="generator")
    codec = FeatureCodec.load(out / "features.npz")
    people = People(cache, plan.size, codec.count, plan.capacity, plan.held_out, device, plan.generator.learning)
    people.wait(plan.start_people, plan.wait_minutes)
    trainer = Trainer(plan, codec, people, out, mesh, device, log)
    if not trainer.resume(out / "state-generator.pt", budget):
        trainer.start(start, plan.generator.mapping_share * budget.seconds, sketches)
    if rehearsed is not None and plan.generator.rehearsed:
        trainer.rehearse(rehearsed)
    log(event="start", people=people.count, held_out=len(people.test), fraction=budget.fraction)

    def step() -> bool:
        before = trainer.last_stage
        stage = trainer.train_step(budget.fraction)
        return before is not None and stage.size != before.size

    def facts() -> dict[str, Any]:
        assert trainer.last_stage is not None
        return {"size": trainer.last_stage.size, "people": people.refresh(), "memory_gb": _memory(device)}

    sheet = out / "sheets" / "generator.png"
    loop.learn(trainer, step, facts, plan, budget, sheet, log)
    loop.finish(trainer, people.refresh(), plan, budget, sheet, log)


def _memory(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
