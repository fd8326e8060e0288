"""What is trained and for how long. Times are fractions of the wall-clock budget, so one plan serves any budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

LOOKS = ("photo", "toon")


@dataclass(frozen=True)
class Stage:
    """From `start` (fraction of the generator's time) on, train at `size` pixels with `batch` people per step."""

    start: float
    size: int
    batch: int
    between: tuple[int, int] | None = None  # size and batch of every second step: many people are rendered small


@dataclass(frozen=True)
class GeneratorPlan:
    w_dim: int = 512  # also z_dim
    mapping_layers: int = 4
    mapping_share: float = 0.08  # of the time, the mapping network learns by itself first (`mapping.py`)
    feature_noise: float = 0.3  # added to the weighted features at first, fading to 15 % of it
    channels: tuple[int, ...] = (192, 192, 160, 96, 64, 32, 8)  # at 4, 8 ... 256: 0.77 G multiply-adds
    discriminator_channels: tuple[int, ...] = (256, 256, 192, 128, 64, 32, 16)  # the discriminators', likewise
    shared_up_to: int = 0  # pixels: so far the toon draws with the photo's layers, and grows out of it (`networks/family.py`)
    learning: tuple[str, ...] = LOOKS  # if not all of them, the mapping network and the others stay as they are
    stages: tuple[Stage, ...] = (
        Stage(0.00, 32, 192),
        Stage(0.05, 64, 128),
        Stage(0.13, 128, 96),
        Stage(0.26, 256, 64),
    )
    attention: float = 6.0  # how much more eyes, brows and mouth count in the difference of pictures
    face_strength: float = 0.5  # of the face-mesh network's feature maps, relative to pixels
    mesh_strength: float = 0.3  # of the face mesh that the tracker finds, likewise
    faces: int | None = None  # of a batch are shown to the tracker; None: all
    structure_strength: float = 0.0  # of 1 - SSIM, relative to pixels
    squared_strength: float = 0.0  # of squared differences, relative to L1: what PSNR counts
    squared_from: float = 0.75
    rare: float = 0.0  # how much more often open mouths and glasses are drawn; 1: twice as often
    rehearsed: float = 0.0  # people drawn by an earlier generator, per rendered one (`rehearsal.py`)
    paired: float = 0.0  # part of the steps that show pairs, who differ in one thing (`training.render --pairs`)
    change_strength: float = 0.0  # then: of what changes between the two, relative to pixels
    mirrored: float = 0.5  # part of the people seen in a mirror
    other_background: float = 0.5  # part of the people before the background of somebody else
    adversary_from: float = 0.55  # 1 and more: never
    adversary_strength: float = 0.25  # gradient of the adversarial loss relative to that of the pixel loss
    matching_strength: float = 1.0
    invented: float = 0.25  # part of the adversarial batch that comes from random z
    lr: float = 3e-3
    adversary_rate: float = 0.67  # times lr, once the discriminators have joined
    mapping_rate: float = 15.0  # times lr; the layers themselves divide by 100
    discriminator_lr: float = 2e-3
    decay_from: float = 0.82
    ema_images: float = 8000.0  # half-life of the average
    r1_weight: float = 1.0
    r1_every: int = 16


@dataclass(frozen=True)
class EncoderPlan:
    batch: int = 96
    features_batch: int = 96  # while only features are compared
    other_background: float = 0.55  # part of the people before something else
    attention: float = 4.0  # how much more eyes, brows and mouth count in the difference of pictures
    widths: tuple[int, ...] = (24, 48, 96, 128, 160)
    depths: tuple[int, ...] = (0, 1, 2, 2, 1)
    thumbnail: int = 16
    backdrop_share: float = 0.08  # of the time, what tells the background learns by itself first (`backdrop.py`)
    motion_only: bool = False  # what reads motion learns, everything else is left as it began
    kept: float = 0.0  # then: share of what it began with in the mean of weights that it leaves
    lr: float = 1e-3
    decay_from: float = 0.6
    start_people: int = 400
    features_only: float = 0.35  # fraction of the time before pictures are compared
    features_only_rate: float = 0.35  # share of the time the encoder computes while it waits for a generator
    offsets_from: float = 0.5
    invented: float = 0.25  # part of the batch drawn by the generator: one person's looks with another's motion
    ema_images: float = 8000.0


@dataclass(frozen=True)
class Plan:
    size: int = 256
    generator: GeneratorPlan = field(default_factory=GeneratorPlan)
    encoder: EncoderPlan = field(default_factory=EncoderPlan)
    generator_share: float = 0.78  # of the budget; the encoder goes on alone with the finished generator
    start_people: int = 200
    wait_minutes: float = 5.0  # for the first people
    capacity: int = 20000
    checkpoint_seconds: float = 60.0
    report_seconds: float = 60.0
    held_out: int = 20  # every 20th person is never trained on
    held_out_most: int = 256  # of them evaluated while training


PLANS: dict[str, Plan] = {"demo": Plan()}

# Goes on from earlier networks (`--start`) on a machine without an accelerator: small batches, many steps.
PLANS["refine"] = replace(
    PLANS["demo"],
    generator=replace(
        PLANS["demo"].generator,
        feature_noise=0.02,
        mapping_share=0.14,
        stages=(
            Stage(0.0, 32, 24),
            Stage(0.20, 64, 24),
            Stage(0.40, 128, 16, between=(64, 24)),
            Stage(0.84, 256, 8, between=(128, 16)),
        ),
        faces=2,
        structure_strength=1.5,
        squared_strength=2.0,
        rare=1.0,
        adversary_from=2.0,
        lr=4e-3,
        mapping_rate=120.0,
        decay_from=0.5,
        ema_images=1500.0,
    ),
    encoder=replace(
        PLANS["demo"].encoder,
        batch=12,
        features_batch=24,
        other_background=0.4,
        lr=6e-4,
        decay_from=0.3,
        features_only=0.3,
        features_only_rate=1.0,
        offsets_from=0.5,
        ema_images=2000.0,
        start_people=64,
    ),
    start_people=64,
    report_seconds=120.0,
    held_out_most=128,
)

# Of an older list of features, or of people who look otherwise: the mapping network is learned anew, the photo look goes on from
# the old one's codes, and the toon grows out of the photo. Small pictures first: who looks old is decided at 32 to 128 pixels.
PLANS["renew"] = replace(
    PLANS["refine"],
    generator=replace(
        PLANS["refine"].generator,
        shared_up_to=32,
        mapping_share=0.2,
        stages=(
            Stage(0.0, 32, 24),
            Stage(0.15, 64, 24),
            Stage(0.35, 128, 16, between=(64, 24)),
            Stage(0.85, 256, 8, between=(128, 16)),
        ),
        squared_strength=0.0,  # it rewards blur, and wrinkles are the first to go
    ),
    encoder=replace(PLANS["refine"].encoder, features_only=0.45),
)

# The renderer shows more than before (skin that ages, shaven beards): the photo look alone learns it, in the features and codes
# that there are. Encoder, toon and directions stay. What people have in common shows at 64 and 128 pixels: most time goes there.
PLANS["relook"] = replace(
    PLANS["refine"],
    generator=replace(
        PLANS["refine"].generator,
        learning=("photo",),
        mapping_share=0.0,
        attention=3.0,  # foreheads and cheeks are where age shows
        stages=(
            Stage(0.0, 64, 24),
            Stage(0.25, 128, 16, between=(64, 24)),
            Stage(0.75, 256, 8, between=(128, 16)),
        ),
        structure_strength=3.0,
        squared_strength=0.0,  # it rewards blur, and wrinkles are the first to go
        lr=3e-3,
        decay_from=0.4,
    ),
)

# What sliders show: between the two pictures of a pair nothing changes but age, or gender, and that change is compared as well.
# Of a picture by itself it is too small a part to be learned first, and of the codes, too.
PLANS["contrast"] = replace(
    PLANS["relook"],
    generator=replace(
        PLANS["relook"].generator,
        paired=0.6,
        change_strength=1.5,
        stages=(
            Stage(0.0, 64, 24),
            Stage(0.15, 128, 16, between=(64, 24)),
            Stage(0.35, 128, 16),
            Stage(0.8, 256, 8, between=(128, 16)),
        ),
        decay_from=0.5,
    ),
)

# Afterwards, against what `refine` has learned by heart: with people drawn by a generator that has seen others (`--rehearse`).
PLANS["polish"] = replace(
    PLANS["refine"],
    generator=replace(
        PLANS["refine"].generator,
        mapping_share=0.0,
        stages=(Stage(0.0, 64, 24), Stage(0.6, 256, 8, between=(64, 24))),
        rehearsed=1.0,
        lr=2.5e-3,
        decay_from=0.1,
    ),
)

# Afterwards, for detail: the photo look alone, whose strands, skin and shadows a cartoon has not.
PLANS["sharpen"] = replace(
    PLANS["refine"],
    generator=replace(
        PLANS["refine"].generator,
        learning=("photo",),
        mapping_share=0.0,
        stages=(Stage(0.0, 128, 16), Stage(0.5, 256, 8, between=(128, 16))),
        structure_strength=5.0,
        squared_strength=0.0,
        lr=1.5e-3,
        decay_from=0.0,
    ),
)

# The same on an accelerator, and the encoder beside it. A step costs its launches there, not its people: large batches.
PLANS["finish"] = replace(
    PLANS["sharpen"],
    generator=replace(
        PLANS["sharpen"].generator,
        stages=(Stage(0.0, 128, 96), Stage(0.3, 256, 64, between=(128, 96))),
        faces=None,
        lr=3e-3,
        decay_from=0.1,
        ema_images=10000.0,
    ),
    encoder=replace(
        PLANS["refine"].encoder,
        batch=128,
        features_batch=256,
        backdrop_share=0.04,
        lr=1.5e-3,
        features_only=0.12,
        offsets_from=0.35,
        ema_images=20000.0,
    ),
    report_seconds=60.0,
)

# Afterwards, for the encoder: small steps by which the avatar moves as the person does. Looks change by way
# of the eyes alone.
PLANS["follow"] = replace(
    PLANS["refine"],
    encoder=replace(
        PLANS["refine"].encoder,
        motion_only=True,
        kept=0.5,
        backdrop_share=0.0,
        lr=4e-4,
        decay_from=0.0,
        features_only=0.0,
        offsets_from=0.0,
        ema_images=4000.0,
    ),
)

PLANS["small"] = replace(
    PLANS["demo"],
    size=64,
    generator=replace(
        PLANS["demo"].generator,
        channels=(64, 64, 48, 32, 16),
        discriminator_channels=(48, 48, 32, 24, 16),
        stages=(Stage(0, 16, 32), Stage(0.15, 32, 16), Stage(0.35, 64, 16)),
        ema_images=500.0,
    ),
    encoder=replace(
        PLANS["demo"].encoder,
        batch=16,
        widths=(16, 24, 32, 48),
        depths=(0, 1, 1, 1),
        ema_images=500.0,
        start_people=64,
    ),
    start_people=64,
    capacity=4000,
    checkpoint_seconds=20.0,
    report_seconds=20.0,
    held_out_most=32,
)

PLANS["smoke"] = replace(
    PLANS["small"],
    size=32,
    generator=replace(
        PLANS["small"].generator,
        w_dim=256,
        mapping_layers=2,
        channels=(32, 32, 16, 8),
        discriminator_channels=(24, 24, 16, 8),
        stages=(Stage(0, 8, 16), Stage(0.15, 16, 16), Stage(0.35, 32, 8)),
    ),
    encoder=replace(PLANS["small"].encoder, batch=8, widths=(8, 16, 24), depths=(0, 1, 1), start_people=16),
    start_people=16,
    capacity=256,
    checkpoint_seconds=5.0,
    report_seconds=5.0,
    held_out_most=8,
)
