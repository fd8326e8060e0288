"""The HTTP interface: what the page turns, programs turn too."""

from __future__ import annotations

import io
import itertools
import re
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from doppelgan.runtime.serve.controls import Changes, Controls, History
from doppelgan.runtime.serve.frames import decode_jpeg, encode_jpeg
from doppelgan.runtime.serve.studio import build_pipeline
from doppelgan.runtime.types import Image
from PIL import Image as pillow

from .conftest import HEAD, Served


def test_changes_are_merged_by_name_and_zeros_go(plain: Served) -> None:
    api = plain.api
    assert api.patch("/api/state", json={"edits": {"age": 0.5, "smile": 0}}).json()["edits"] == {"age": 0.5}
    now = api.patch("/api/state", json={"edits": {"smile": -0.25}, "style": "toon"}).json()
    assert (now["edits"], now["style"]) == ({"age": 0.5, "smile": -0.25}, "toon")
    assert api.patch("/api/state", json={"edits": {"age": None}}).json()["edits"] == {"smile": -0.25}
    assert api.post("/api/reset").json()["edits"] == {}
    assert api.post("/api/undo").json()["edits"] == {"smile": -0.25}
    assert api.post("/api/redo").json()["edits"] == {}


def test_a_refused_change_changes_nothing(plain: Served) -> None:
    before = plain.api.get("/api/state").json()
    assert plain.api.patch("/api/state", json={"style": "toon", "edits": {"age": 50}}).status_code == 422
    assert plain.api.get("/api/state").json() == before


def test_every_control_reaches_the_pipeline(plain: Served, face: Image) -> None:
    turned = {
        "style": "toon",
        "composite": "head",
        "truncation": 0.5,
        "max_faces": 2,
        "identity_lock": False,
        "edits": {"age": 0.5},
    }
    plain.api.patch("/api/state", json=turned).raise_for_status()
    with plain.page() as page:
        page.say(type="camera")
        page.show(face)
        page.result()
    pipeline = plain.desk.studio._pipeline
    assert (pipeline.style, pipeline.composite, pipeline.truncation, pipeline.edits) == (
        "toon",
        "head",
        0.5,
        {"age": 0.5},
    )
    assert pipeline._tracker._max_faces == 2
    assert all(person.lock is None for person in pipeline.people.values())
    plain.api.patch("/api/state", json={"identity_lock": True}).raise_for_status()


def test_the_mode_that_is_shown_is_the_one_that_the_pipeline_takes(plain: Served) -> None:
    for style in ("photo", "toon"):
        for composite in (None, "difference", "face", "head", "replace"):
            controls = plain.desk.change(Changes(style=style, composite=composite))
            pipeline = build_pipeline(plain.desk.bundle, controls)
            assert plain.api.get("/api/state").json()["composite"] == pipeline.composite
    refused = plain.api.patch("/api/state", json={"composite": "replace", "max_faces": 2})
    assert refused.status_code == 422


def test_blend_lies_between_before_and_after(plain: Served, face: Image) -> None:
    def shown(blend: float) -> Image:
        plain.api.patch(
            "/api/state", json={"blend": blend, "composite": "head", "style": "toon"}
        ).raise_for_status()
        with plain.page() as page:
            page.say(type="camera")
            page.show(face)
            return decode_jpeg(page.result()["picture"])[:240].astype(int)

    none, half, full = shown(0), shown(0.5), shown(1)
    assert np.abs(none - face[:240]).mean() < 4
    assert np.abs(full - face[:240]).mean() > 4
    assert np.abs(half - (none + full) / 2).mean() < 4


def test_turns_of_one_control_in_a_row_are_one_step_back() -> None:
    now_s = [0.0]
    history = History(Controls(bundle="a"), lambda: now_s[0])
    for strength in (0.1, 0.2, 0.3):
        now_s[0] += 0.1
        history.set(Changes(edits={"age": strength}).applied(history.present))
    history.set(Changes(edits={"smile": 1.0}).applied(history.present))
    now_s[0] += 5
    history.set(Changes(edits={"smile": 0.5}).applied(history.present))
    steps = []
    while (controls := history.undo()) is not None:
        steps.append(controls.edits)
    assert steps == [{"age": 0.3, "smile": 1.0}, {"age": 0.3}, {}]
    assert history.redo().edits == {"age": 0.3}  # type: ignore[union-attr]
    history.set(Changes(truncation=0.5).applied(history.present))
    assert history.redo() is None, "a new turn forgets what was undone"


def test_a_look_or_a_reset_is_a_step_of_its_own_however_soon_it_follows() -> None:
    history = History(Controls(bundle="a"), lambda: 0.0)
    aged = Changes(edits={"age": 0.5}).applied(history.present)
    history.set(aged)
    history.set(Controls(bundle="a"), apart=True)
    history.set(aged, apart=True)
    history.set(Changes(edits={"age": 0.6}).applied(aged))
    steps = []
    while (controls := history.undo()) is not None:
        steps.append(controls.edits)
    assert steps == [{"age": 0.5}, {}, {"age": 0.5}, {}]


def test_reset_and_a_look_are_undone_one_by_one(plain: Served) -> None:
    aged = {"edits": {"age": 0.5}}
    plain.api.patch("/api/state", json=aged).raise_for_status()
    plain.desk.save_preset("Aged")
    plain.api.post("/api/reset").raise_for_status()
    plain.api.post("/api/presets/Aged").raise_for_status()
    assert plain.api.post("/api/undo").json()["edits"] == {}
    assert plain.api.post("/api/undo").json()["edits"] == {"age": 0.5}
    plain.desk.delete_preset("Aged")


def test_the_interface_describes_itself(served: Served) -> None:
    document = served.api.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    state = document["components"]["schemas"]["Changes"]["properties"]
    assert {"edits", "style", "composite", "truncation", "blend", "max_faces", "bundle"} <= set(state)
    names = [item[method]["operationId"] for item in document["paths"].values() for method in item]
    assert len(names) == len(set(names))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            said = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert said == set(re.findall(r"\{(\w+)\}", path)), (method, path)
    references = set(re.findall(r'#/components/schemas/(\w+)"', served.api.get("/api/openapi.json").text))
    assert references <= set(document["components"]["schemas"])
    from doppelgan.runtime.serve.app import STATIC

    # What the page asks for is documented.
    for script in STATIC.glob("*.js"):
        for method, path in re.findall(r'call\("([A-Z]+)", [`"](/api/[^`"?]*)', script.read_text()):
            plain = re.sub(r"\$\{[^}]*\}", "{}", path)
            known = {(m, re.sub(r"\{[^}]*\}", "{}", p)) for m, p in operations}
            assert (method, plain) in known, (script.name, method, path)


def test_presets_are_saved_with_a_picture_and_brought_back(plain: Served, face: Image, data: Path) -> None:
    api = plain.api
    with plain.page() as page:
        page.say(type="camera")
        page.show(face)
        page.result()
        api.patch("/api/state", json={"edits": {"age": 0.5}, "style": "toon"}).raise_for_status()
        assert api.put("/api/presets/Old 1", json={}).status_code == 200
    assert api.get("/api/presets").json() == ["Old 1"]
    assert pillow.open(io.BytesIO(api.get("/api/presets/Old 1/picture").content)).size == (160, 160)
    api.post("/api/reset")
    api.patch("/api/state", json={"style": "photo"})
    assert api.post("/api/presets/Old 1").json()["edits"] == {"age": 0.5}
    assert plain.desk.controls.style == "toon"
    assert api.put("/api/presets/..%2Fup", json={}).status_code in (404, 405, 422)
    assert api.delete("/api/presets/Old 1").status_code == 204
    assert api.delete("/api/presets/Old 1").status_code == 404
    assert list((data / "presets").iterdir()) == []


def test_a_recording_has_what_was_shown_with_sound_in_its_place(
    plain: Served, face: Image, data: Path
) -> None:
    api = plain.api
    assert api.delete("/api/recording").status_code == 422
    with plain.page() as page:
        page.say(type="camera")
        page.hear("seat")
        name = api.post("/api/recording").json()["name"]
        assert api.post("/api/recording").status_code == 422, "one at a time"
        tone = (np.sin(np.arange(4800) * 0.2) * 12000).astype("<i2").tobytes()
        for step in range(20):
            now_ms = 5000 + 100 * step
            page.show(face, time=now_ms)
            page.hear("ack")
            if step >= 10:  # a second of silence first
                head = HEAD.pack(2, 0, 0, 0, float(now_ms), 48000 & 0xFFFF, 0, 0, 0)
                page.socket.send(head + tone)
        end_s = time.monotonic() + 10
        while plain.desk.recorder.status()["frames"] < 20 and time.monotonic() < end_s:  # type: ignore[index]
            time.sleep(0.05)
        assert api.delete("/api/recording").json()["name"] == name
    assert api.get("/api/recordings").json()[0]["name"] == name
    film = api.get(f"/api/recordings/{name}").content
    with av.open(io.BytesIO(film)) as opened:
        (video,), (_,) = opened.streams.video, opened.streams.audio
        frames = [frame for packet in opened.demux(video) for frame in packet.decode()]
        assert (video.width, video.height) == (320, 240), "the strip is no part of it"
    assert len(frames) == 20
    times = [float(frame.pts * frame.time_base) for frame in frames]  # type: ignore[operator]
    np.testing.assert_allclose(np.diff(times), 0.1, atol=0.002)
    with av.open(io.BytesIO(film)) as opened:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in opened.decode(audio=0)])
    assert 1.8 < len(sound) / 48000 < 2.3
    loud = [float(np.abs(sound[int(a * 48000) : int(b * 48000)]).mean()) for a, b in ((0.2, 0.8), (1.2, 1.8))]
    assert loud[0] < 0.01 < 0.1 < loud[1]
    assert api.delete(f"/api/recordings/{name}").status_code == 204
    assert list((data / "recordings").iterdir()) == []


def test_a_recording_without_a_frame_leaves_nothing(served: Served, data: Path) -> None:
    served.desk.studio.take_source(None)
    served.api.post("/api/recording").raise_for_status()
    answer = served.api.delete("/api/recording")
    assert (answer.status_code, "no frame" in answer.json()["error"]) == (422, True)
    assert list((data / "recordings").iterdir()) == []


def test_snapshots_are_full_size(served: Served, face: Image) -> None:
    with served.page() as page:
        page.say(type="camera")
        page.show(face)
        page.result()
        sizes = {
            what: pillow.open(io.BytesIO(served.api.get(f"/api/snapshot.png?what={what}").content)).size
            for what in ("after", "before", "both")
        }
    assert sizes == {"after": (320, 240), "before": (320, 240), "both": (640, 240)}


def test_pictures_are_edited_at_full_size_with_the_same_controls(plain: Served, face: Image) -> None:
    api = plain.api
    first = api.post("/api/pictures", content=encode_jpeg(face[:240], 95)).json()
    second = api.post("/api/pictures", content=encode_jpeg(face[:240, ::-1], 95)).json()
    assert (first["width"], first["height"]) == (320, 240)
    before = np.asarray(
        pillow.open(io.BytesIO(api.get(f"/api/pictures/{first['id']}/before").content))
    ).astype(int)
    after = [before]
    for style in ("photo", "toon"):
        api.patch("/api/state", json={"style": style, "edits": {"age": 0.8, "glasses": 1}}).raise_for_status()
        after.append(
            np.asarray(pillow.open(io.BytesIO(api.get(f"/api/pictures/{first['id']}/after").content))).astype(
                int
            )
        )
    for one, other in itertools.combinations(after, 2):
        assert one.shape == other.shape == (240, 320, 3)
        assert np.abs(one - other)[90:150, 130:190].mean() > 0.5
    assert pillow.open(io.BytesIO(api.get(f"/api/pictures/{first['id']}/after?size=100").content)).size == (
        100,
        75,
    )
    assert api.get(f"/api/pictures/{first['id']}/after?size=x").status_code == 422
    assert pillow.open(io.BytesIO(api.get("/api/sheet.png").content)).size == (4 * 160, 180)
    mixed = api.post("/api/mix", json={"first": first["id"], "second": second["id"], "weight": 0.5})
    assert pillow.open(io.BytesIO(mixed.content)).size == (320, 240)
    blank = api.post("/api/pictures", content=encode_jpeg(np.full((64, 64, 3), 90, np.uint8))).json()
    refused = api.post("/api/mix", json={"first": first["id"], "second": blank["id"]})
    assert "none in the second" in refused.json()["error"]
    for picture in (first, second, blank):
        assert api.delete(f"/api/pictures/{picture['id']}").status_code == 204
    assert api.get("/api/sheet.png").status_code == 422


@pytest.mark.parametrize(
    "data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(60), b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_picture_is_refused(served: Served, data: bytes) -> None:
    answer = served.api.post("/api/pictures", content=data)
    assert (answer.status_code, "expected an image" in answer.json()["error"]) == (422, True)


def test_a_picture_too_large_is_refused_from_its_head(served: Served) -> None:
    data = io.BytesIO()
    pillow.new("1", (8, 8)).save(data, "PNG")
    png = bytearray(data.getvalue())
    png[16:24] = (30000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    answer = served.api.post("/api/pictures", content=bytes(png))
    assert (answer.status_code, "megapixels" in answer.json()["error"]) == (422, True)


def test_the_stream_for_other_programs_shows_the_picture_without_its_strip(
    served: Served, face: Image
) -> None:
    with served.page() as page:
        page.say(type="camera")
        page.show(face)
        page.result()
        with served.api.stream("GET", "/stream.mjpg") as answer:
            assert answer.headers["content-type"].startswith("multipart/x-mixed-replace; boundary=")
            data = b""
            for chunk in answer.iter_raw():
                data += chunk
                if data.count(b"\r\n\r\n") and len(data) > 2000:
                    break
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
    assert decode_jpeg(body[:length]).shape == (240, 320, 3)


def test_figures_for_prometheus(served: Served, face: Image) -> None:
    with served.page() as page:
        page.say(type="camera")
        page.show(face)
        page.result()
        page.shown(age_ms=123.0)
        page.show(face)
        page.result()
        lines = served.api.get("/api/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["doppelgan_frames_total"]) >= 2
    assert float(values["doppelgan_glass_to_glass_seconds"]) == pytest.approx(0.123)
    assert float(values['doppelgan_state{state="live"}']) == 1
    assert float(values['doppelgan_stage_seconds{stage="synthesize"}']) > 0
    for line in lines:
        assert re.fullmatch(
            r'# (HELP|TYPE) doppelgan_\w+ .+|doppelgan_\w+(\{\w+="\w+"\})? [\d.e+-]+', line
        ), line
    assert served.api.get("/api/health", headers={"authorization": ""}).json() == {"status": "ok"}
