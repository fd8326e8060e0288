"""Who may come in: token, cookie, password, Host, Origin, headers, sizes, rates, numbers of connections.

========================  =============================================================================
what is asked             why
========================  =============================================================================
token or password, once   other users and programs of this machine; then a cookie (HttpOnly, SameSite=Strict)
``Host`` is one of ours   DNS rebinding: another site's name that points to this machine
``Origin`` is the host    scripts of other pages, on WebSockets and on whatever changes something
bounded everything        a client that sends too much, too fast, or too slowly, disturbs nobody else
========================  =============================================================================

Programs send ``Authorization: Bearer TOKEN`` with every request instead of a cookie.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SAFE_METHODS: Final = ("GET", "HEAD")
MOST_BODY: Final = 32 << 20  # bytes of an upload
REQUESTS_PER_S: Final = 100.0
REQUESTS_AT_ONCE: Final = 200.0
TRIES_PER_MINUTE: Final = 10  # of a password, from one address
OPEN_PATHS: Final = ("/login", "/api/health", "/static/login.css", "/favicon.ico")

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=(), payment=(), usb=()"),
]


@dataclass(slots=True)
class Bucket:
    """So many at once, so many a second."""

    per_s: float
    size: float
    now_s: Callable[[], float] = time.monotonic
    _level: float = field(default=-1.0, init=False)
    _at_s: float = field(default=0.0, init=False)

    def take(self) -> bool:
        now_s = self.now_s()
        if self._level < 0:
            self._level = self.size
        else:
            self._level = min(self.size, self._level + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._level < 1:
            return False
        self._level -= 1
        return True


@dataclass(slots=True)
class Door:
    """The secrets of one run of the server, and what it answers to."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    password: str | None = None
    names: frozenset[str] = frozenset()  # of hosts, besides the loopback's
    any_address: bool = False  # numbers as hosts are fine: they cannot be rebound
    secure: bool = False  # served over TLS
    tries: deque[tuple[float, str]] = field(default_factory=deque)  # wrong passwords: when, from where

    @property
    def cookie(self) -> str:
        return f"doppelgan-{self.port}"  # cookies are not kept apart by port

    def knows_host(self, host: str) -> bool:
        """Is this ``Host`` header one of ours? Ports do not matter: tunnels change them."""
        name = host.strip().lower()
        name = (
            name[1:].partition("]")[0]
            if name.startswith("[")
            else name.rsplit(":", 1)[0]
            if ":" in name
            else name
        )
        if name in ("localhost", "127.0.0.1", "::1") or name in self.names:
            return True
        if not self.any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def check_token(self, token: str) -> bool:
        """A token cannot be guessed, so wrong ones are not counted."""
        return hmac.compare_digest(_bytes(token), _bytes(self.token))

    def check_password(self, password: str, address: str) -> bool:
        """False, too, when too many wrong ones came from ``address``, or from anywhere, within a minute."""
        now_s = time.monotonic()
        while self.tries and now_s - self.tries[0][0] > 60:
            self.tries.popleft()
        own = sum(other == address for _, other in self.tries)
        if self.password is None or own >= TRIES_PER_MINUTE or len(self.tries) >= 10 * TRIES_PER_MINUTE:
            return False
        if hmac.compare_digest(_bytes(password), _bytes(self.password)):
            return True
        self.tries.append((now_s, address))
        return False

    def new_session(self) -> str:
        """The value of a new cookie: signed, so that it outlives a restart that keeps token and password."""
        nonce = secrets.token_urlsafe(16)
        return f"{nonce}.{self._signature(nonce)}"

    def _signature(self, nonce: str) -> str:
        key = _bytes(f"{self.token}\n{self.password or ''}")
        return hmac.new(key, f"session {nonce}".encode(), "sha256").hexdigest()

    def set_cookie(self) -> bytes:
        secure = "; Secure" if self.secure else ""
        return f"{self.cookie}={self.new_session()}; Path=/; HttpOnly; SameSite=Strict{secure}".encode()

    def knows(self, headers: dict[bytes, bytes]) -> bool:
        """Does the request carry a session's cookie?"""
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        value = cookies[self.cookie].value if self.cookie in cookies else ""
        nonce, _, signature = value.partition(".")
        return hmac.compare_digest(signature.encode(), self._signature(nonce).encode())


class Guard:
    """ASGI middleware: lets through only what the door lets in."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], door: Door) -> None:
        self._app = app
        self._door = door
        self._bucket = Bucket(REQUESTS_PER_S, REQUESTS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if scope["type"] == "websocket":
            if self._refusal(scope, headers, socket=True) is not None:
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope, headers, socket=False)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        await self._app(scope, _bounded(receive, headers), _with_headers(send, scope["path"]))

    def _refusal(
        self, scope: Scope, headers: dict[bytes, bytes], *, socket: bool
    ) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        """Status, text and further headers of the answer to who may not come in; None: come in."""
        door, path = self._door, scope["path"]
        method = "GET" if socket else scope["method"]
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not door.knows_host(hosts[0].decode("latin-1")):
            return 421, "unknown host: open the address that `doppelgan serve` printed", []
        host = hosts[0].decode("latin-1").lower()
        if not self._bucket.take():
            return 429, "too many requests: slow down", [(b"retry-after", b"1")]
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MOST_BODY:
            return 413, f"too large: at most {MOST_BODY >> 20} MiB", [(b"connection", b"close")]
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        if authorization:
            kind, _, token = authorization.partition(" ")
            if kind.lower() == "bearer" and door.check_token(token.strip()):
                return None
            return 401, "wrong token", []
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        changes = socket or method not in SAFE_METHODS
        if changes and path != "/login" and not origin:
            return 403, "expected an Origin, or Authorization: Bearer TOKEN", []
        if origin and origin.partition("://")[2] != host:
            return 403, "other pages may not talk to this server", []
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and (
            changes or path != "/"
        ):
            return 403, "other pages may not talk to this server", []
        if path in OPEN_PATHS or door.knows(headers):
            return None
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if not changes and "token" in query and door.check_token(query.pop("token")):
            if path == "/stream.mjpg":  # for players that keep no cookies
                return None
            target = path + (f"?{urlencode(query)}" if query else "")
            if not target.startswith("/") or target.startswith(("//", "/\\")):
                target = "/"
            return (
                303,
                "",
                [(b"location", target.encode("latin-1", "replace")), (b"set-cookie", door.set_cookie())],
            )
        if path == "/" and door.password is not None and not socket:
            return 303, "", [(b"location", b"/login")]
        return 401, "open the address that `doppelgan serve` printed: it carries a token", []


def _bounded(receive: Receive, headers: dict[bytes, bytes]) -> Receive:
    """A body that grows beyond its bound without saying so ends as a broken connection."""
    count = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        return {"type": "http.disconnect"} if count > MOST_BODY else message

    return bounded


def _with_headers(send: Send, path: str) -> Send:
    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            extra = [pair for pair in HEADERS if pair[0] not in names]
            if b"cache-control" not in names:
                extra.append((b"cache-control", b"no-cache" if path.startswith("/static/") else b"no-store"))
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return wrapped


async def _answer(send: Send, status: int, text: str, extra: list[tuple[bytes, bytes]]) -> None:
    body = f"doppelgan: {text}\n".encode() if text else b""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *HEADERS,
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bytes(secret: str) -> bytes:
    """For comparison; what came in JSON or from the environment may hold halves of letters."""
    return secret.encode(errors="backslashreplace")
