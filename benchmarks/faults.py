"""What goes wrong in a day, done on purpose: each fault in processes of its own, and what is left after it.

    python -m benchmarks.faults [-o PAGE.md] [--only NAME]

That no real face is shown in any fault of a live run is proven by tests/runtime/test_no_face_leaks.py.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from doppelgan.runtime import Pipeline, open_bundle

from .common import header, publish

COMMAND = [sys.executable, "-m", "doppelgan.runtime.cli"]


def run(
    *arguments: str | Path, environment: dict[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **(environment or {})},
    )


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """The error, which must be one line without a traceback."""
    lines = [line for line in result.stderr.splitlines() if "error:" in line or "Traceback" in line]
    expect(result.returncode == 2, f"expected exit 2, got {result.returncode}: {result.stderr[-300:]}")
    expect(len(lines) == 1, f"expected one line of error, got {result.stderr[-300:]}")
    return lines[0].removeprefix("doppelgan: error: ")


def clip(folder: Path) -> Path:
    bundle = open_bundle("demo")
    return Path(shutil.copy(bundle.path / bundle.manifest.files["clip"].file, folder / "clip.mp4"))


def killed_while_recording(folder: Path) -> str:
    """A live recording that is killed is playable up to its last seconds."""
    target = folder / "live.mp4"
    child = start("live", "-i", "test:320x240@30", "--to", target)
    try:
        time.sleep(2)
        deadline = time.monotonic() + 60
        part = next((p for p in folder.iterdir() if p.name.startswith("live.mp4")), None)
        while (part is None or part.stat().st_size < 60_000) and time.monotonic() < deadline:
            time.sleep(0.5)
            part = next((p for p in folder.iterdir() if "live.mp4" in p.name), None)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = [p for p in folder.iterdir() if "live.mp4" in p.name]
    expect(bool(left), "expected a file, found nothing")
    with av.open(str(left[0])) as container:
        frames = sum(1 for _ in container.decode(video=0))
    expect(frames > 10, f"expected frames, got {frames}")
    return f"{frames} frames of {left[0].name} can be played"


def killed_while_converting(folder: Path) -> str:
    """A converted file appears complete or not at all, and the next run works."""
    source, target = clip(folder), folder / "out.mp4"
    child = start("video", source, "-o", target, "--edit", "smile=1")
    deadline = time.monotonic() + 60
    while not list(folder.glob("out.mp4*")) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    expect(not target.exists(), "expected no file under the output's name")
    again = run("video", source, "-o", target, "--edit", "smile=1")
    expect(again.returncode == 0, again.stderr[-300:])
    expect(target.is_file(), "expected the complete file")
    rest = sorted(p.name for p in folder.iterdir() if p != source and p != target)
    return f"nothing under its name; the next run is complete; beside it {rest or 'nothing'}"


def full_output(folder: Path) -> str:
    """A pipe and a file system that are full."""
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m doppelgan.runtime.cli video test:64x48@30:20 -o - > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = one_line(result)
    small = folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=False).returncode:
        return f"pipe: {said}; file system: not tried (no right to mount)"
    try:
        disk = one_line(run("video", "test:640x480@30:200", "-o", small / "a.mp4"))
        left = [p.name for p in small.iterdir()]
    finally:
        subprocess.run(["umount", small], check=True)
    expect(not left, f"expected nothing half-written, found {left}")
    return f"pipe: {said[:80]}; file system: {disk[-80:]}"


def slow_consumer(folder: Path) -> str:
    """Whoever reads a live pipe slowly gets fresh frames, not old ones; memory does not grow."""
    child = subprocess.Popen(
        [*COMMAND, "live", "-i", "test:320x240@60", "--to", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    sizes = []
    try:
        for _ in range(12):
            child.stdout.read(320 * 240 * 3)
            time.sleep(0.4)
            sizes.append(_resident_mb(child.pid))
    finally:
        child.terminate()
        child.stdout.close()
        child.wait(30)
    expect(sizes[-1] - sizes[4] < 10, f"expected flat memory, got {sizes} MB")
    return f"memory {sizes[4]:.0f} to {sizes[-1]:.0f} MB"


def reader_goes_away(folder: Path) -> str:
    """The other end of a pipe closes."""
    result = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m doppelgan.runtime.cli video test:64x48@30:900 -o - | head -c 9999 | wc -c",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    expect("Traceback" not in result.stderr, result.stderr[-300:])
    return "ends without a traceback"


def two_compiles(folder: Path) -> str:
    """Two processes compile one bundle at once; what is left is whole."""
    bundle = Path(shutil.copytree(open_bundle("demo").path, folder / "bundle"))
    children = [start("compile", bundle, "--network", "mapping", "--rounds", "3") for _ in range(2)]
    codes = [child.wait(900) for child in children]
    after = run("bundles", bundle)
    expect(codes == [0, 0] or sorted(codes) == [0, 2], f"expected success, got {codes}")
    expect(after.returncode == 0, after.stderr[-300:])
    return f"exit codes {codes}; the bundle opens"


def closed_caches(folder: Path) -> str:
    """A cache that cannot be written or is a file: slower, not broken."""
    picture = folder / "a.png"
    shutil.copy(_face(folder), picture)
    results: list[str] = []
    not_a_folder = folder / "file"
    not_a_folder.write_text("no folder")
    for name, cache in (("a file", not_a_folder), ("absent and closed", Path("/proc/none"))):
        target = folder / f"{len(results)}.png"
        environment = {"DOPPELGAN_CACHE": str(cache), "DOPPELGAN_CONFIG": str(cache)}
        result = run("image", picture, "-o", target, "--edit", "smile=1", environment=environment)
        expect(result.returncode == 0 and target.is_file(), f"{name}: {result.stderr[-300:]}")
        results.append(name)
    return "works with a cache that is " + " or ".join(results)


def caches_without_room(folder: Path) -> str:
    """A cache that is read-only or full: slower, not broken, and nothing half-written stays."""
    picture, said = _face(folder), []
    for name, options in (("read-only", "ro"), ("full", "size=16k")):
        cache = folder / name
        cache.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", cache], check=False).returncode:
            return "not tried (no right to mount)"
        try:
            if name == "full":
                with contextlib.suppress(OSError):
                    (cache / "other").write_bytes(bytes(1 << 20))
            environment = {"DOPPELGAN_CACHE": str(cache), "DOPPELGAN_CONFIG": str(cache)}
            for backend in ("native", "openvino"):
                target = folder / f"{name}-{backend}.png"
                options_ = ("--edit", "smile=1", "--backend", backend)
                result = run("image", picture, "-o", target, *options_, environment=environment)
                expect(result.returncode == 0 and target.is_file(), f"{name}: {result.stderr[-300:]}")
                expect("Traceback" not in result.stderr, result.stderr[-300:])
            parts = [p.name for p in cache.rglob("*") if ".part" in p.name]
            expect(not parts, f"expected nothing half-written, found {parts}")
        finally:
            subprocess.run(["umount", cache], check=True)
        said.append(name)
    return "works with a cache that is " + " or ".join(said)


def stream_that_is_killed(folder: Path) -> str:
    """An RTSP camera that is killed while it is watched, three times: the picture comes back by itself."""
    if shutil.which("ffmpeg") is None:
        return "not tried (no ffmpeg to be the camera)"
    port = _free_port()
    target = folder / "seen.mkv"

    def camera() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.rtsp", str(port)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert started.stdout is not None
        expect(started.stdout.readline() == "ready\n", "expected the test's camera to start")
        return started

    def kill(process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)  # with its encoder
        process.wait()

    running = camera()
    child = subprocess.Popen(
        [*COMMAND, "live", "-i", f"rtsp://127.0.0.1:{port}/cam", "--to", target, "--composite", "difference"],
        stderr=subprocess.PIPE,
        text=True,
    )
    sizes = [_grown(target, child, 0)]
    for _ in range(3):
        kill(running)
        time.sleep(3)
        running = camera()
        sizes.append(_grown(target, child, sizes[-1]))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    kill(running)
    expect("Traceback" not in said, said[-300:])
    with av.open(str(target)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    return f"came back each time; {frames} frames recorded"


def _grown(target: Path, child: subprocess.Popen[str], beyond: int) -> int:
    """Wait until more than that, and a little, was recorded; returns the size in bytes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        expect(child.poll() is None, f"expected the run to go on, it ended with {child.returncode}")
        parts = [
            p for p in target.parent.iterdir() if p.suffix != ".py" and p.stat().st_size > beyond + 60_000
        ]
        if parts:
            return parts[0].stat().st_size
        time.sleep(0.3)
    raise AssertionError("expected the picture to come back within 120 s")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def no_memory_while_it_runs(folder: Path) -> str:
    """The memory left to a live run shrinks to nothing: it goes on or says so, what it wrote plays."""
    script = f"""
import os, resource, sys, threading, time
from doppelgan.runtime.cli import main
def squeeze():
    deadline = time.monotonic() + 60
    while not any({str(folder)!r} in p for p in open_files()) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
    time.sleep(2)
    hoard = []
    try:
        while True: hoard.append(bytearray(1 << 16))
    except MemoryError: os.write(2, b"squeezed\\n")
    time.sleep(10)
def open_files():
    names = []
    for name in os.listdir("/proc/self/fd"):
        try: names.append(os.readlink("/proc/self/fd/" + name))
        except OSError: pass
    return names
threading.Thread(target=squeeze, daemon=True).start()
sys.argv[1:] = ["live", "-i", "test:640x480@30:900", "--to", {str(folder / "live.mp4")!r}]
main()
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=180
    )
    expect("Traceback" not in result.stderr, result.stderr[-300:])
    expect("squeezed" in result.stderr, "expected the memory to run out while it runs")
    files = [p for p in folder.iterdir() if "live.mp4" in p.name]
    expect(bool(files), "expected a file")
    with av.open(str(files[0])) as container:
        frames = sum(1 for _ in container.decode(video=0))
    last = (result.stderr.strip().splitlines() or ["nothing was said"])[-1]
    return f"exit {result.returncode}; {frames} frames can be played; {last[:120]}"


def clock_that_jumps(folder: Path) -> str:
    """Frames' times jump back an hour and forward a day: none is lost, and what is written plays in order."""
    from doppelgan.runtime.sink import open_sink
    from doppelgan.runtime.types import Frame

    target = folder / "jumps.mp4"
    times = [
        *(k / 25 for k in range(50)),
        *(k / 25 - 3600 for k in range(50)),
        *(k / 25 + 86400 for k in range(50)),
    ]
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    with open_bundle("demo") as bundle, open_sink(target, rate=25) as sink:
        pipeline = Pipeline(bundle, {"smile": 1.0})
        for index, time_s in enumerate(times):
            sink.write(Frame(pipeline.process(picture, time_s), index, time_s))
    with av.open(str(target)) as container:
        stamps = [frame.pts or 0 for frame in container.decode(video=0)]
    expect(stamps == sorted(set(stamps)), "expected times that grow")
    return f"{len(stamps)} of {len(times)} frames, in order"


def starved(folder: Path) -> str:
    """Eight busy processes beside a live run: frames are dropped, the age of those shown stays bounded."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        child = subprocess.Popen(
            [*COMMAND, "live", "-i", "test:320x240@30", "--to", "null:", "--latency"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        time.sleep(40)  # of which starting takes a good part
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    age = next((line for line in said.splitlines() if "age" in line), "no frame was shown")
    expect("Traceback" not in said, said[-300:])
    return age.strip()


def little_memory(folder: Path) -> str:
    """A picture that does not fit into the memory allowed: one line, nothing written."""
    from PIL import Image

    large = folder / "large.png"
    Image.fromarray(np.zeros((9000, 9000, 3), np.uint8)).save(large)
    result = subprocess.run(
        ["bash", "-c", f"ulimit -v 900000; {' '.join(COMMAND)} image {large} -o {folder / 'out.png'}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    expect(not (folder / "out.png").exists() or result.returncode == 0, "half a result")
    expect(result.returncode != 0, "expected an error: the limit did not bite")
    return f"exit {result.returncode}: {result.stderr.strip().splitlines()[-1][:100]}"


def _face(folder: Path) -> Path:
    target = folder / "face.png"
    with av.open(str(clip(folder))) as container:
        next(container.decode(video=0)).to_image().save(target)
    return target


def _resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


FAULTS: tuple[Callable[[Path], str], ...] = (
    killed_while_recording,
    killed_while_converting,
    full_output,
    slow_consumer,
    reader_goes_away,
    two_compiles,
    closed_caches,
    caches_without_room,
    stream_that_is_killed,
    clock_that_jumps,
    starved,
    no_memory_while_it_runs,
    little_memory,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--only", action="append", choices=[fault.__name__ for fault in FAULTS])
    options = parser.parse_args()
    lines, failed = ["| fault | holds | what was left |", "|---|---|---|"], 0
    for fault in FAULTS:
        if options.only and fault.__name__ not in options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                holds, left = "yes", fault(Path(folder))
            except Exception as error:  # each fault is tried
                holds, left, failed = "NO", f"{type(error).__name__}: {error}", failed + 1
        left = left.replace("\n", " ").replace("|", "/")
        lines.append(f"| {(fault.__doc__ or '').strip().rstrip('.')} | {holds} | {left[:300]} |")
        print(lines[-1], flush=True)
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    publish(
        header("Faults", f"python -m benchmarks.faults ({digest})") + "\n" + "\n".join(lines), options.output
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
