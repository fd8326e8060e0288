"""``doppelgan serve`` as people type it."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import av
import httpx
import pytest
from click.testing import CliRunner
from doppelgan.runtime.cli import group
from doppelgan.runtime.cli.serve import _token
from doppelgan.runtime.errors import DoppelganError, SinkError

from ..conftest import ROOT

DEMO = str(ROOT / "engines" / "demo")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--host", "0.0.0.0"], "add --password"),
        (["--host", "192.168.0.7"], "lets everyone in your network see"),
        (["--tls-cert", __file__], "both --tls-cert and --tls-key"),
        (["--preset", "nobody"], "not found"),
        (["-e", "age=99"], "use a smaller value"),
        (["--style", "x"], "expected one of photo, toon"),
        (["-i", "nothing.mp4"], "no such file"),
        (["-b", "nothing"], "not found"),
        (["--host", "203.0.113.9", "--tls-cert", __file__, "--tls-key", __file__], "cannot listen"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(
    arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOPPELGAN_DATA", str(tmp_path))
    bundle = [] if "-b" in arguments else ["-b", DEMO]
    done = CliRunner().invoke(group, ["serve", "--port", "0", "--no-open", *bundle, *arguments])
    assert done.exit_code != 0
    said = str(done.exception) if isinstance(done.exception, DoppelganError) else done.output
    assert why in " ".join(said.split())


def test_a_token_is_kept_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = _token(path)
    assert (len(token) >= 24, _token(path)) == (True, token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    with pytest.raises(SinkError, match="16 characters"):
        _token(path)
    with pytest.raises(SinkError, match="cannot keep"):
        _token(tmp_path / "none" / "token")
    assert _token(None) != _token(None)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C of a child process is sent in another way there")
def test_it_serves_feeds_a_file_meanwhile_and_ends_in_order(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    command = [sys.executable, "-m", "doppelgan.runtime.cli", "serve", "-b", DEMO, "--port", "0", "--no-open"]
    command += ["-i", "test:96x64@30", "--to", str(film), "--threads", "1"]
    environment = {**os.environ, "DOPPELGAN_DATA": str(tmp_path / "data")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"served at (http://127\.0\.0\.1:\d+/)\?token=(\S+)", line)
        assert found, line
        with httpx.Client(base_url=found[1], headers={"authorization": f"Bearer {found[2]}"}) as api:
            end_s = time.monotonic() + 20
            while api.get("/api/status").json()["outputs"][0]["frames"] < 5 and time.monotonic() < end_s:
                time.sleep(0.05)
            with api.stream("GET", "/stream.mjpg") as answer:  # endless, and yet it ends
                next(answer.iter_raw())
                process.send_signal(signal.SIGINT)
                assert process.wait(15) == 130
        rest = process.stderr.read()
    assert "Traceback" not in rest
    assert "stopped" in rest
    with av.open(str(film)) as opened:
        assert len(list(opened.decode(video=0))) >= 5
