"""Frames in, results out: newest only, one at a time, nothing lost but what is old."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from doppelgan.runtime.errors import SourceError
from doppelgan.runtime.serve import live, server
from doppelgan.runtime.serve.frames import (
    H264Reader,
    H264Writer,
    YuvReader,
    decode_jpeg,
    encode_jpeg,
    fit_within,
)
from doppelgan.runtime.serve.live import Socket
from doppelgan.runtime.serve.studio import Job, Result
from doppelgan.runtime.sink.video import ROUNDED_MEANS
from doppelgan.runtime.types import Image

from .conftest import STRIP, Served


def until(condition: object, timeout_s: float = 10) -> bool:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_a_frame_comes_back_edited_above_the_strip_it_was_sent_with(plain: Served, face: Image) -> None:
    with plain.page() as page:
        page.say(type="camera")
        assert page.hear("seat")["yours"]
        plain.api.patch("/api/state", json={"style": "toon", "composite": "face"}).raise_for_status()
        number = page.show(face, time=4321.5)
        assert page.hear("ack")["number"] == number
        result = page.result()
    assert (result["number"], result["time"], result["size"], result["strip"]) == (
        number,
        4321.5,
        (320, 256),
        STRIP,
    )
    assert (result["state"], result["face_state"], result["faces"]) == ("live", "live", 1)
    image = decode_jpeg(result["picture"])
    differences = np.abs(image.astype(int) - face).mean(axis=2)
    assert differences[90:150, 130:190].mean() > 8, "the face was not edited"
    assert differences[:20].mean() < 4
    assert differences[240:].mean() < 6, "the strip was edited"


def test_the_next_result_waits_until_the_last_was_shown_and_is_then_the_newest(
    plain: Served, face: Image
) -> None:
    with plain.page() as page:
        page.say(type="camera")
        for _ in range(4):
            number = page.show(face)
            assert page.hear("ack")["number"] == number
        assert until(lambda: plain.desk.studio.latest.number == number)  # type: ignore[union-attr]
    with plain.page() as page, plain.page() as watcher:
        page.say(type="camera")
        watcher.result(live=False)  # what there was at its coming
        watcher.shown()
        page.show(face)
        watcher.result()
        for _ in range(3):
            last = page.show(face)
            page.hear("ack")
        assert until(lambda: plain.desk.studio.latest.number == last)  # type: ignore[union-attr]
        with pytest.raises(TimeoutError):
            watcher.result(0.3)
        watcher.shown()
        assert watcher.result()["number"] == last


def test_what_waits_in_a_line_that_stands_still_stays_little(
    plain: Served, face: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is silent gets results ever more rarely, and when it wakes up one is on its way again."""
    monkeypatch.setattr(live, "ACK_LATE_S", 0.1)
    with plain.page() as page, plain.page() as sleeper:
        page.say(type="camera")
        end_s = time.monotonic() + 2
        while time.monotonic() < end_s:
            last = page.show(face)
            page.hear("ack")
        assert until(lambda: plain.desk.studio.latest.number == last)  # type: ignore[union-attr]
        numbers = []
        with contextlib.suppress(TimeoutError):
            while True:
                numbers.append(sleeper.result(0.3)["number"])
        assert 3 <= len(numbers) <= 6, "after 0.1, 0.3, 0.7, 1.5 s"
        for old in numbers[:-1]:
            sleeper.say(type="ack", number=old)
        with pytest.raises(TimeoutError):
            sleeper.result(0.3)
        sleeper.shown()
        assert sleeper.result()["number"] == last


def test_pages_that_show_late_share_two_threads_however_many_they_are(
    plain: Served, face: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that grows whenever all are busy keeps some megabytes for every thread."""
    pack = Socket._pack

    def pack_slowly(self: Socket, result: Result) -> bytes:
        time.sleep(0.1)
        return pack(self, result)

    with contextlib.ExitStack() as open_pages:
        pages = [open_pages.enter_context(plain.page()) for _ in range(6)]
        pages[0].say(type="camera")
        for _ in range(2):
            number = pages[0].show(face)
            pages[0].hear("ack")
        assert until(lambda: plain.desk.studio.latest.number == number)  # type: ignore[union-attr]
        for page in pages[1:]:
            page.result(live=False)
        monkeypatch.setattr(Socket, "_pack", pack_slowly)
        for page in pages[1:]:
            page.shown()
        for page in pages[1:]:
            page.result(live=False)
        names = [thread.name for thread in threading.enumerate()]
    assert 1 <= sum(name.startswith("doppelgan-send") for name in names) <= 2
    assert not [name for name in names if name.startswith("asyncio_")]


def test_a_frame_that_nobody_took_yet_is_replaced_by_a_newer_one(served: Served, face: Image) -> None:
    studio = served.desk.studio
    source, started, go_on = object(), [], []

    def decode_slowly(number: int) -> Image:
        started.append(number)
        assert until(lambda: go_on)
        return face

    studio.take_source(source)
    dropped = studio.replaced
    assert studio.offer(source, Job(lambda: decode_slowly(1), 1, 0.0, STRIP))
    assert until(lambda: started)
    for number in (102, 103, 104):
        assert studio.offer(source, Job(lambda n=number: decode_slowly(n), number, 0.0, STRIP))  # type: ignore[misc]
    go_on.append(True)
    assert until(lambda: studio.latest.number == 104)  # type: ignore[union-attr]
    assert started == [1, 104]
    assert studio.replaced == dropped + 2
    assert not studio.offer(object(), Job(lambda: face, 5, 0.0))
    studio.take_source(None)


def test_one_page_has_the_seat_at_a_time(served: Served, face: Image) -> None:
    with served.page() as first, served.page() as second:
        first.say(type="camera")
        assert first.hear("seat")["yours"]
        assert served.desk.source_name == "page"
        second.say(type="camera")
        assert second.hear("seat")["yours"]
        first.show(face)
        assert not first.hear("seat")["yours"]
        second.show(face)
        second.hear("ack")
    assert until(lambda: served.desk.source_name is None)


def test_without_frames_a_card_says_so_and_no_picture_of_the_camera_stays(
    served: Served, face: Image
) -> None:
    with served.page() as page:
        page.say(type="camera")
        page.show(face)
        page.result()
        page.shown()
        card = page.result(live=False)
        while card["state"] != "lost":
            page.shown()
            card = page.result(live=False)
    image = decode_jpeg(card["picture"])
    assert image.shape == (240, 320, 3)
    assert np.abs(image.astype(int) - 24).mean() < 6
    assert served.api.get("/api/snapshot.png").status_code == 409


def test_before_and_mesh_come_only_when_they_are_wanted(plain: Served, face: Image) -> None:
    with plain.page() as page:
        page.say(type="camera")
        page.show(face)
        result = page.result()
        assert (result["before"], result["mesh"]) == (b"", b"")
        page.say(type="want", want={"before": True, "mesh": True})
        page.shown()
        page.show(face)
        result = page.result()
    assert np.abs(decode_jpeg(result["before"]).astype(int) - face).mean() < 4
    mesh = np.frombuffer(result["mesh"], "<u2").reshape(468, 2) / 16
    assert ((mesh > (70, 30)) & (mesh < (250, 210))).all()
    (square,) = (one["square"] for one in result["faces"])
    low, high = np.min(square, axis=0), np.max(square, axis=0)
    assert (low < mesh.min(0)).all()
    assert (high > mesh.max(0)).all()


def test_bare_planes_show_the_same_as_jpeg(plain: Served, face: Image) -> None:
    frame = av.VideoFrame.from_ndarray(face, format="bgr24")
    i420 = frame.reformat(format="yuv420p", interpolation=ROUNDED_MEANS).to_ndarray()
    nv12 = frame.reformat(format="nv12", interpolation=ROUNDED_MEANS).to_ndarray()
    for planes, is_nv12 in ((i420, False), (nv12, True)):
        image = YuvReader()(planes.tobytes(), 320, 256, nv12=is_nv12)
        assert np.abs(image.astype(int) - face).mean() < 2.5
    with plain.page() as page:
        page.say(type="camera")
        page.send(i420.tobytes(), (320, 256), codec=1)
        assert page.result()["faces"] == 1
        page.shown()
        page.send(nv12.tobytes(), (320, 256), codec=2)
        assert page.result()["faces"] == 1


def test_full_range_is_told_apart_from_limited(face: Image) -> None:
    planes = np.full((24 * 3 // 2, 32), 128, np.uint8)
    planes[:24] = 255
    limited = YuvReader()(planes.tobytes(), 32, 24)
    full = YuvReader()(planes.tobytes(), 32, 24, full_range=True)
    assert limited.min() == 255
    assert full.min() >= 254
    planes[:24] = 16
    assert YuvReader()(planes.tobytes(), 32, 24).max() == 0
    assert YuvReader()(planes.tobytes(), 32, 24, full_range=True).min() == 16


def test_h264_both_ways_one_picture_a_message(plain: Served, face: Image) -> None:
    writer, reader = H264Writer(4_000_000), H264Reader()
    keys = []
    for shift in range(3):
        moved = np.roll(face, shift, axis=1)
        data, key = writer(moved)
        keys.append(key)
        assert np.abs(reader(data).astype(int) - moved).mean() < 6
    assert keys == [True, False, False]
    writer.restart()
    assert writer(face)[1]
    assert writer(face[:128])[1], "another size begins anew"
    with pytest.raises(SourceError, match=r"H\.264"):
        H264Reader()(b"\0\0\0\1\x65 not a picture")

    up, down = H264Writer(), H264Reader()
    with plain.page() as page:
        page.say(type="want", want={"codec": "h264", "bitrate": 3_000_000})
        page.say(type="camera")
        if plain.desk.studio.latest is not None:  # what there was at its coming
            page.result(live=False)
            page.shown()
        for _ in range(2):
            page.send(up(face)[0], (320, 256), codec=3)
            result = page.result()
            assert result["codec"] == 3
            assert down(result["picture"]).shape == (256, 320, 3)
            page.shown()
        page.send(b"\0\0\0\1 no picture", (320, 256), codec=3)
        assert page.hear("key")


def test_jpeg_keeps_its_colors_and_sizes(face: Image) -> None:
    assert np.abs(decode_jpeg(encode_jpeg(face, 95)).astype(int) - face).mean() < 3
    assert fit_within(face, 100).shape == (80, 100, 3)
    assert fit_within(face, 1000) is face


def test_a_camera_of_the_server_and_files_that_start_over(served: Served) -> None:
    answer = served.api.put("/api/source", json={"source": "test:64x48@60:3"})
    assert answer.json()["source"] == "test:64x48@60:3"
    taken = served.desk.studio.taken
    assert until(lambda: served.desk.studio.taken > taken + 5), "three frames, over and over"
    assert served.api.put("/api/source", json={"source": "no-such-file.mp4"}).status_code == 422
    assert served.api.put("/api/source", json={"source": None}).json()["source"] is None


def test_a_live_run_leaves_nothing_on_the_disk(
    served: Served, face: Image, data: Path, tmp_path: Path
) -> None:
    before = sorted(data.rglob("*"))
    with served.page() as page:
        page.say(type="camera")
        for _ in range(3):
            page.show(face)
            page.result()
            page.shown()
    assert sorted(data.rglob("*")) == before


def test_what_a_backend_raises_is_told_and_the_run_goes_on(
    plain: Served, face: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    with plain.page() as page:
        page.say(type="camera")
        with monkeypatch.context() as patch:
            patch.setattr(plain.desk.studio._pipeline, "process", fail)
            page.show(face)
            assert "out of memory" in page.hear("error")["text"]
            assert "out of memory" in plain.api.get("/api/status").json()["failure"]
        page.show(face)
        assert page.result()["faces"] == 1
    assert plain.api.get("/api/status").json()["failure"] is None


def test_a_server_gives_memory_back_while_it_runs(plain: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Event()
    monkeypatch.setattr(server, "give_back", given.set)
    monkeypatch.setattr(server, "GIVE_BACK_S", 2)  # a running server looks it up at every tick
    assert given.wait(20)
    given.clear()
    assert given.wait(20), "again and again"
