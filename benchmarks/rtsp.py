"""A camera on the network that can be killed: the smallest RTSP server that players take for one.

    python -m benchmarks.rtsp PORT [SECONDS]

FFmpeg's program encodes a moving test picture and sends RTP to this process, which passes the packets on
inside the RTSP connection (RFC 2326, 10.12), to one player at a time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def serve(port: int, seconds: float) -> None:
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.bind(("127.0.0.1", 0))
    packets.settimeout(10)
    folder = Path(tempfile.mkdtemp())
    encoder = subprocess.Popen(
        [
            *("ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "12"),
            *(
                "-pix_fmt",
                "yuv420p",
                "-bsf:v",
                "dump_extra=freq=keyframe",
                "-t",
                str(seconds),
                "-sdp_file",
                str(folder / "sdp"),
            ),
            *("-f", "rtp", f"rtp://127.0.0.1:{packets.getsockname()[1]}?pkt_size=1200"),
        ]
    )
    try:
        packets.recv(2048)  # it runs, and has described itself
        listener = socket.create_server(("127.0.0.1", port))
        print("ready", flush=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            player, _ = listener.accept()
            with contextlib.suppress(OSError):
                _answer(player, packets, (folder / "sdp").read_text(), port)
    finally:
        encoder.kill()


def _answer(player: socket.socket, packets: socket.socket, sdp: str, port: int) -> None:
    described = "\r\n".join([*sdp.strip().splitlines(), "a=control:0", ""])
    heads = {
        "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
        "DESCRIBE": f"Content-Base: rtsp://127.0.0.1:{port}/\r\nContent-Type: application/sdp\r\n",
        "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
        "PLAY": "Session: 1\r\nRange: npt=now-\r\n",
    }
    with player, player.makefile("rb") as asked:
        while first := asked.read(1):
            if first == b"$":  # a report of the player's
                asked.read(struct.unpack(">BH", asked.read(3))[1])
                continue
            method = (first + asked.readline()).split(b" ", 1)[0].decode("ascii", "replace")
            fields = dict(line.split(b":", 1) for line in iter(asked.readline, b"\r\n") if b":" in line)
            body = described if method == "DESCRIBE" else ""
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            number = fields.get(b"CSeq", b"0").decode().strip()
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{heads.get(method, '')}{length}\r\n{body}"
            player.sendall(answer.encode())
            if method == "PLAY":
                threading.Thread(target=_pump, args=(player, packets), daemon=True).start()


def _pump(player: socket.socket, packets: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            packet = packets.recv(2048)
            player.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 600.0)
