"""``doppelgan serve``: the page in the browser."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import webbrowser
from pathlib import Path

import click

from ..bundle import open_bundle
from ..edit import Editor, read_edits
from ..errors import DoppelganError, SinkError
from ..mark.badge import CORNERS
from ..presets import Presets
from .options import THREADS, backend_option, composite_option

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command("serve")
@click.option("--bundle", "-b", default="demo", show_default=True, help="Name or folder of a bundle.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: all.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8484, show_default=True, help="0: any free one."
)
@click.option(
    "--open/--no-open",
    "open_page",
    default=None,
    help="Open the page in a browser.  [default: if there is a display]",
)
@click.option(
    "--source",
    "-i",
    default=None,
    help="A camera, file or stream of this machine instead of the page's camera.",
)
@click.option(
    "--to",
    "-o",
    "outputs",
    multiple=True,
    help="Feed this meanwhile: camera: (virtual camera), a video file; repeat for several.",
)
@click.option(
    "--edit", "-e", "edits", multiple=True, metavar="NAME=VALUE|WORDS", help="An edit to begin with."
)
@click.option("--style", "-s", default="photo", show_default=True, help="Generator: photo, toon ...")
@composite_option
@click.option(
    "--badge",
    type=click.Choice([*CORNERS, "off"]),
    default=CORNERS[2],
    show_default=True,
    help="Corner of the sign that tells viewers what AI did here.",
)
@click.option("--preset", default=None, help="A saved look to begin with.")
@click.option(
    "--password", is_flag=True, help="Ask for a password that the page will want ($DOPPELGAN_PASSWORD)."
)
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="PEM file.")
@click.option(
    "--token-file", type=click.Path(dir_okay=False, path_type=Path), help="Keep the token here, for programs."
)
@click.option(
    "--name", "names", multiple=True, help="Host name that the page is reached by; repeat for several."
)
@backend_option
@click.option("--threads", type=THREADS, help="Threads per network; trackers keep to one.")
def command(
    bundle: str,
    host: str,
    port: int,
    open_page: bool | None,
    source: str | None,
    outputs: tuple[str, ...],
    edits: tuple[str, ...],
    style: str,
    composite: str | None,
    badge: str,
    preset: str | None,
    password: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    names: tuple[str, ...],
    backend: str | None,
    threads: int | None,
) -> None:
    """The page: your camera, what becomes of it, and everything you can turn. Ctrl-C ends.

    \b
    doppelgan serve                                  opens http://127.0.0.1:8484
    doppelgan serve -i clip.mp4 --style toon         a file of this machine instead of the page's camera
    doppelgan serve --to camera:                     feeds a virtual camera meanwhile
    doppelgan serve --host 0.0.0.0 --password        for other devices of your network; see docs/page.md
    """
    try:
        from ..serve.desk import Desk
        from ..serve.guard import Door
        from ..serve.server import listening_socket, run
    except ImportError as error:
        raise SinkError(
            f"serve: expected the package {error.name}, found none; pip install 'doppelgan[serve]'"
        ) from None
    secret = os.environ.get("DOPPELGAN_PASSWORD") or None
    if password and secret is None:
        secret = click.prompt("Password for the page", hide_input=True, confirmation_prompt=True)
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("expected both --tls-cert and --tls-key, or neither")
    _check_host(host, secret, tls_cert)
    chosen = _edits(edits, bundle)
    settings: dict[str, object] = {"edits": chosen, "style": style, "badge": badge}
    if composite is not None:
        settings["composite"] = composite
    if preset is not None:
        saved = Presets().read(preset)
        settings = {
            "edits": {**saved.edits, **chosen},
            "style": saved.style,
            "composite": saved.composite,
            "badge": badge,
            "truncation": saved.truncation,
            "blend": saved.blend,
        }
    desk = Desk(bundle, settings=settings, backend=backend, threads=threads, source=source, outputs=outputs)
    listener = listening_socket(host, port)
    port = listener.getsockname()[1]
    door = Door(
        port,
        _token(token_file),
        password=secret,
        names=frozenset(name.lower() for name in (*names, *_own_names(host))),
        any_address=host not in LOOPBACK,
        secure=tls_cert is not None,
    )
    scheme = "https" if tls_cert is not None else "http"
    shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
    address = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}/"

    def ready() -> None:
        click.echo(f"doppelgan is served at {address}?token={door.token}", err=True)
        if host not in LOOPBACK:
            click.echo(
                "Everyone who reaches this address and knows the token or the password can see and turn it. "
                + (
                    ""
                    if tls_cert
                    else "Without TLS, browsers give a camera only to pages of their own machine."
                ),
                err=True,
            )
        click.echo("Ctrl-C ends.", err=True)
        display = sys.platform in ("darwin", "win32") or any(
            os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY")
        )
        if display if open_page is None else open_page:
            webbrowser.open(f"{address}?token={door.token}")

    run(desk, door, listener, certificate=tls_cert, key=tls_key, on_ready=ready)


def _edits(texts: tuple[str, ...], bundle: str) -> dict[str, float]:
    """What to begin with, and on standard error what was understood of words."""
    if not texts:
        return {}
    with open_bundle(bundle, compiled=False) as opened:
        chosen, remarks = read_edits(texts, opened.directions)
        for remark in remarks:
            click.echo(f"doppelgan: note: {remark}", err=True)
        return Editor(opened.directions, opened.latent_avg).expanded(chosen)


def _check_host(host: str, secret: str | None, certificate: Path | None) -> None:
    loopback = host in LOOPBACK
    if not loopback:
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
    if not loopback and secret is None and certificate is None:
        raise click.UsageError(
            f"--host {host} lets everyone in your network see your camera's picture: "
            "add --password, or --tls-cert and --tls-key"
        )


def _own_names(host: str) -> list[str]:
    if host in LOOPBACK:
        return []
    name = socket.gethostname()
    return [host, name, f"{name}.local"]


def _token(path: Path | None) -> str:
    """The file's token, or a new one, which is written there for this user only."""
    if path is None:
        return secrets.token_urlsafe(24)
    try:
        if path.exists():
            token = path.read_text().strip()
            if len(token) < 16 or not token.isascii() or not token.isprintable():
                raise SinkError(
                    f"{path}: expected a token of 16 characters or more; remove the file for a new one"
                )
            return token
        token = secrets.token_urlsafe(24)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
        return token
    except (OSError, UnicodeDecodeError) as error:
        raise SinkError(f"{path}: cannot keep a token: {error}; choose another --token-file") from None


__all__ = ["DoppelganError", "command"]
