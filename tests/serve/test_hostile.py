"""Who may not come in, and what they cannot do to those who may."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from doppelgan.runtime.serve import server as server_module
from doppelgan.runtime.serve.guard import MOST_BODY, Bucket, Door, Guard
from doppelgan.runtime.types import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .conftest import STRIP, TOKEN, Page, Served


def ask(
    served: Served, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request as it is, without a client's good manners; the default Host is right."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        sent = {"host": f"127.0.0.1:{served.port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def cookie_of(served: Served) -> str:
    status, headers, _ = ask(served, "GET", f"/?token={TOKEN}")
    assert status == 303
    return headers["set-cookie"].partition(";")[0]


def test_the_token_becomes_a_cookie_and_leaves_the_address(served: Served) -> None:
    status, headers, _ = ask(served, "GET", f"/avatar?background=red&token={TOKEN}")
    assert (status, headers["location"]) == (303, "/avatar?background=red")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    status, headers, body = ask(served, "GET", "/", cookie=cookie.partition(";")[0])
    assert (status, b"<canvas" in body) == (200, True)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "cookie", ["", "doppelgan-{port}=x", "doppelgan-{port}=x.y", "doppelgan-{port}=.", "=;;=", "\x7f"]
)
@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/static/app.js", "/stream.mjpg", "/api/openapi.json", "/nothing"]
)
def test_nobody_comes_in_without_token_or_cookie(served: Served, path: str, cookie: str) -> None:
    status, headers, body = ask(served, "GET", path, cookie=cookie.format(port=served.port))
    assert status == (303 if path == "/" else 401)
    assert headers.get("location", "/login") == "/login"
    assert b"demo" not in body
    assert ask(served, "GET", path + "?token=wrong")[0] == status


def test_a_cookie_outlives_a_restart_with_the_same_secrets_only() -> None:
    first, same = Door(1, "token" * 5), Door(1, "token" * 5)
    other, changed = Door(1, "other" * 5), Door(1, "token" * 5, password="new")
    headers = {b"cookie": first.set_cookie().partition(b";")[0]}
    assert same.knows(headers)
    assert not other.knows(headers)
    assert not changed.knows(headers)
    assert not Door(2, "token" * 5).knows(headers)
    assert b"Secure" in Door(1, secure=True).set_cookie()


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8484", True), ("localhost", True), ("LOCALHOST:9000", True), ("[::1]:8484", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("localhost.evil.example:8484", False),
        ("", False), ("0.0.0.0", False), ("192.168.0.7:8484", False), ("localhost:80:90", False),
        ("[::1", True),
    ],
)  # fmt: skip
def test_hosts(host: str, known: bool) -> None:
    assert Door(8484).knows_host(host) is known


def test_numbers_and_own_names_are_hosts_where_the_network_may_come_in() -> None:
    door = Door(8484, names=frozenset({"box.local"}), any_address=True)
    assert all(door.knows_host(host) for host in ("192.168.0.7:8484", "box.local", "[fe80::1]:8484"))
    assert not door.knows_host("evil.example")


def test_a_rebound_name_is_refused_even_with_the_cookie(served: Served) -> None:
    status, _, body = ask(
        served, "GET", "/api/state", cookie=cookie_of(served), host=f"evil.example:{served.port}"
    )
    assert (status, b"controls" in body) == (421, False)
    with socket.create_connection(("127.0.0.1", served.port)) as bare:
        head = (
            f"GET /api/state HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nCookie: {cookie_of(served)}\r\n\r\n"
        )
        bare.sendall(head.encode())
        assert b" 4" in bare.recv(100)[:12]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "null", "http://127.0.0.1.evil.example", ""]
)
def test_other_pages_can_neither_change_nor_listen(served: Served, origin: str) -> None:
    cookie = cookie_of(served)
    headers = {"cookie": cookie, "content_type": "application/json"} | ({"origin": origin} if origin else {})
    assert ask(served, "PATCH", "/api/state", b'{"truncation": 0.1}', **headers)[0] == 403
    assert served.desk.controls.truncation == 1
    opening = {"Cookie": cookie} | ({"Origin": origin} if origin else {})
    with pytest.raises(InvalidStatus), Page(served.port, opening):
        pass
    if origin:
        assert ask(served, "GET", "/api/state", **headers)[0] == 403


def test_our_own_page_can(plain: Served) -> None:
    origin = f"http://127.0.0.1:{plain.port}"
    headers = {"cookie": cookie_of(plain), "origin": origin, "content_type": "application/json"}
    assert ask(plain, "PATCH", "/api/state", b'{"truncation": 0.5}', **headers)[0] == 200
    assert plain.desk.controls.truncation == 0.5
    with Page(plain.port, {"Cookie": headers["cookie"], "Origin": origin}) as page:
        assert page.hear("hello")


def test_pictures_of_this_page_cannot_be_put_into_another(served: Served) -> None:
    cookie = cookie_of(served)
    for mode in ("cross-site", "same-site"):
        assert ask(served, "GET", "/stream.mjpg", cookie=cookie, sec_fetch_site=mode)[0] == 403
    assert ask(served, "GET", "/", cookie=cookie, sec_fetch_site="cross-site")[0] == 200, (
        "a link may lead here"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/static/../guard.py", "/static/..%2fguard.py", "/static/%2e%2e/guard.py", "/static//etc/passwd",
        "/static/..\\guard.py",
        "/api/recordings/..%2f..%2fetc%2fpasswd", "/api/recordings/%2e%2e", "/api/recordings/doppelgan.mp4",
        "/api/presets/..%2fx/picture", "/api/presets/%00/picture", "/api/pictures/..%2f/before",
        "//evil.example/..",
        "/api/pictures/0000000000000000/after?size=64",
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere_lead_nowhere(served: Served, path: str) -> None:
    status, _, body = ask(served, "GET", path, authorization=f"Bearer {TOKEN}")
    assert 400 <= status < 500
    assert b"root:" not in body
    assert b"import" not in body


def test_a_client_names_no_bundle_by_path(served: Served) -> None:
    for name in ("/etc", "../engines/demo", str(served.desk.bundle.path), ""):
        answer = served.api.patch("/api/state", json={"bundle": name})
        assert answer.status_code == 404
        assert "bundles here: demo" in answer.json()["error"]


def test_too_large_is_refused_before_it_is_read(served: Served) -> None:
    authorization = f"Bearer {TOKEN}"
    with socket.create_connection(("127.0.0.1", served.port)) as bare:
        head = f"POST /api/pictures HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n"
        head += f"Content-Length: {MOST_BODY + 1}\r\n\r\n"
        bare.sendall(head.encode())
        assert b"413" in bare.recv(100)
    assert (
        ask(
            served,
            "PATCH",
            "/api/state",
            b"{" + b" " * 200_000,
            authorization=authorization,
            content_type="application/json",
        )[0]
        == 413
    )
    with served.page() as page:
        with contextlib.suppress(ConnectionClosed):  # it hangs up before it has read all
            page.socket.send(b"\1" + bytes(server_module.MOST_MESSAGE))
        assert page.is_closed()


def test_a_body_that_never_ends_is_cut(served: Served) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MOST_BODY // (1 << 20) + 2):
            yield bytes(1 << 20)

    with pytest.raises((httpx.HTTPError, AssertionError)):  # noqa: PT012 - either is fine: hung up, or told
        answer = served.api.post("/api/pictures", content=endless())
        assert answer.status_code != 413
    assert served.desk.gallery.list() == []


BROKEN = {
    "empty": b"",
    "no head": b"\1",
    "no payload": bytes(24),
    "a kind that is none": b"\7" + bytes(40),
    "a codec that is none": b"\1\x09" + bytes(40),
    "text": b"GET / HTTP/1.1\r\n\r\n" * 3,
}


def frame_of(
    codec: int, width: int, height: int, payload: bytes, *, strip: int = STRIP, time_ms: float = 1.0
) -> bytes:
    from .conftest import HEAD

    return HEAD.pack(1, codec, 0, 1, time_ms, width, height, strip, 0) + payload


WRONG = {
    "no JPEG": frame_of(0, 320, 256, b"not a picture" * 20),
    "half a JPEG": frame_of(0, 320, 256, b"\xff\xd8\xff\xe0" + bytes(200)),
    "planes of another size": frame_of(1, 320, 256, bytes(1000)),
    "odd planes": frame_of(1, 321, 255, bytes(321 * 255 * 3 // 2)),
    "no pixels": frame_of(0, 0, 0, b"x"),
    "a thin one": frame_of(0, 4000, 8, b"x", strip=0),
    "a huge one": frame_of(0, 65535, 65535, b"x"),
    "only a strip": frame_of(0, 320, 16, b"x"),
    "too much strip": frame_of(0, 320, 256, b"x", strip=200),
    "NaN as time": frame_of(0, 320, 256, b"x", time_ms=float("nan")),
    "infinity as time": frame_of(0, 320, 256, b"x", time_ms=float("inf")),
    "no H.264": frame_of(3, 320, 256, bytes(500)),
}


def jpeg_bomb() -> bytes:
    """A few hundred kB that say they are 60,000 pixels square: the size of the head is checked first."""
    from doppelgan.runtime.serve.frames import encode_jpeg

    data = bytearray(encode_jpeg(np.zeros((64, 64, 3), np.uint8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = (60000).to_bytes(2, "big") * 2
    return frame_of(0, 320, 256, bytes(data))


@pytest.mark.parametrize("name", [*BROKEN, *WRONG, "a bomb"])
def test_broken_frames_are_refused_and_the_same_page_goes_on(served: Served, face: Image, name: str) -> None:
    message = jpeg_bomb() if name == "a bomb" else BROKEN.get(name, WRONG.get(name, b""))
    with served.page() as page:
        page.say(type="camera")
        page.hear("seat")
        page.socket.send(message)
        if message:
            assert "expected" in page.hear("error")["text"]
        page.show(face)
        assert page.result()["faces"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"type": 5}',
        '{"type": "want", "want": {"quality": "x"}}',
        '{"type": "ack", "age_ms": 1e999}',
        '{"type": "nothing"}',
    ],
)
def test_broken_texts_are_refused_and_the_same_page_goes_on(served: Served, face: Image, text: str) -> None:
    with served.page() as page:
        page.socket.send(text)
        page.say(type="want", want={"quality": -5, "bitrate": 10**12, "codec": "x"})
        page.say(type="camera")
        page.show(face)
        assert page.result()["faces"] == 1


def test_who_sends_too_much_is_hung_up_on(served: Served) -> None:
    with served.page() as page:
        for _ in range(3000):
            try:
                page.say(type="nothing")
            except Exception:
                break
        assert page.is_closed()
    with served.page() as page:
        page.socket.send("x" * 5000)
        assert page.is_closed()


def test_pages_are_counted(served: Served) -> None:
    pages = [served.page() for _ in range(8)]
    try:
        for page in pages:
            page.hear("hello")
        with pytest.raises(InvalidStatus), served.page():
            pass
    finally:
        for page in pages:
            page.__exit__()


def test_a_thousand_connections_do_not_disturb_the_live_session(
    served: Served, face: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEAD_S", 1.0)
    idle: list[socket.socket] = []
    with served.page() as page:
        page.say(type="camera")
        page.hear("seat")
        stop = threading.Event()

        def crowd() -> None:
            while len(idle) < 1000 and not stop.is_set():
                one = socket.socket()
                one.settimeout(2)
                try:
                    one.connect(("127.0.0.1", served.port))
                    one.sendall(b"GET / HTTP/1.1\r\nX: ")  # and never more
                except OSError:
                    pass
                idle.append(one)

        thread = threading.Thread(target=crowd)
        thread.start()
        try:
            for _ in range(10):
                number = page.show(face)
                assert page.result()["number"] == number
                page.say(type="ack", number=number)
            thread.join(20)
            assert len(idle) == 1000
            number = page.show(face)
            assert page.result()["number"] == number
            end_s = time.monotonic() + 8
            while time.monotonic() < end_s:  # the idle ones are thrown out by themselves
                try:
                    assert ask(served, "GET", "/api/health")[0] == 200
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                raise AssertionError("nobody comes in any more")
        finally:
            stop.set()
            thread.join()
            for one in idle:
                one.close()


def test_a_reader_that_does_not_read_disturbs_nobody(served: Served, face: Image) -> None:
    request = f"GET /stream.mjpg?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with served.page() as page, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", served.port))
        slow.sendall(request)
        page.say(type="camera")
        for _ in range(30):
            number = page.show(face)
            assert page.result()["number"] == number
            page.say(type="ack", number=number)


def test_passwords_cannot_be_guessed_fast_and_the_token_works_meanwhile() -> None:
    door = Door(1, "t" * 20, password="secret")
    for _ in range(20):
        assert not door.check_token("wrong")
    assert door.check_password("secret", "a")
    assert not door.check_password("half a letter \ud83d", "b"), "as JSON may hold it"
    for _ in range(10):
        assert not door.check_password("wrong", "a")
    assert not door.check_password("secret", "a"), "right, but too many were wrong"
    assert door.check_password("secret", "b"), "one guesser does not lock out others"
    assert door.check_token("t" * 20)
    for number in range(200):
        door.check_password("wrong", f"{number}")
    assert not door.check_password("secret", "c"), "many guessers do"
    assert not Door(1).check_password("", "a")


def test_the_login_page_gives_a_cookie_for_the_password(served: Served) -> None:
    origin = {"origin": served.url, "content_type": "application/x-www-form-urlencoded"}
    status, headers, _ = ask(served, "POST", "/login", b"password=correct+horse", **origin)
    assert (status, headers["location"]) == (303, "/")
    assert ask(served, "GET", "/api/state", cookie=headers["set-cookie"].partition(";")[0])[0] == 200
    status, headers, _ = ask(served, "POST", "/login", b"password=wrong", **origin)
    assert (headers["location"], "set-cookie" in headers) == ("/login?wrong", False)
    assert ask(served, "POST", "/login", b"password=correct+horse", origin="http://evil.example")[0] == 403


def test_requests_are_bounded_in_number() -> None:
    now_s = [0.0]
    bucket = Bucket(10, 5, lambda: now_s[0])
    assert [bucket.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now_s[0] += 0.25
    assert [bucket.take() for _ in range(4)] == [True, True, False, False]

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("let in")

    guard = Guard(app, Door(1))  # type: ignore[arg-type]
    guard._bucket = Bucket(0, 1)
    answers: list[int] = []

    async def send(message: dict[str, object]) -> None:
        if "status" in message:
            answers.append(message["status"])  # type: ignore[arg-type]

    async def flood() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
        for _ in range(3):
            await guard(scope, None, send)  # type: ignore[arg-type]

    asyncio.run(flood())
    assert answers == [401, 429, 429]


def test_errors_are_json_and_tell_no_insides(served: Served) -> None:
    answer = served.api.patch("/api/state", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, list(json.loads(answer.content))) == (415, ["error"])
    for body in (
        b"",
        b"[]",
        b'{"unknown": 1}',
        b'{"truncation": "x"}',
        b'{"edits": {"age": 99}}',
        b'{"edits": {"a": 1}}',
        b'{"style": "x"}',
        b'{"composite": "x"}',
        b'{"max_faces": 0}',
        b'{"truncation": NaN}',
    ):
        answer = served.api.patch("/api/state", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, body
        assert "Traceback" not in answer.json()["error"]
