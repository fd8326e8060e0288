"""The pixel kernels against the same work in OpenCV and NumPy calls: checked first, then timed.

    python benchmarks/pixel_kernels.py [--repetitions 200] [--threads 1 2] [--cpu-clock] [--output report.md]

Crop and paste are timed at 1280x720 and 1920x1080 for squares of several sizes, OpenCV being given the same
number of threads. A square larger than the crop has to be filtered, and so has a picture that shrinks into
the frame: the OpenCV calls then do it, too (warp at twice the size and average, or shrink by area first),
and the last column tells what they take without. The calls get what a careful program would do: they touch
only the rectangle around the square and keep arrays contiguous. --cpu-clock counts the time that the
processor spent on the calling thread: the figure to use for one thread on a machine that does other work as
well.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from doppelgan.runtime import native
from doppelgan.runtime.align import align
from doppelgan.runtime.composite import Compositor
from doppelgan.runtime.face_mesh import FACE_OVAL, LEFT_EYE, MOUTH_CORNERS, N_POINTS, RIGHT_EYE
from doppelgan.runtime.native import reference
from doppelgan.runtime.types import Face, Floats, Image, Matrix

SIZE = 256  # of the crop and of the synthesized picture
FRAMES = {"1280x720": (720, 1280), "1920x1080": (1080, 1920)}
SCALES = (1.0, 1.4, 2.0, 2.7)  # side of the square in the frame / SIZE
SHRINKING = 0.6  # the same for a small face, paste only
ROLL = np.deg2rad(8)


def similarity(scale: float, height: int, width: int) -> Matrix:
    """Square pixel -> frame pixel, in the middle of the frame."""
    cos, sin = scale * np.cos(ROLL), scale * np.sin(ROLL)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, (width / 2, height / 2) - linear @ np.full(2, (SIZE - 1) / 2)])


def make_frame(height: int, width: int) -> Image:
    """Smooth color with grain: interpolation errors stay small, but nothing is constant."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (height // 40, width // 40, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return np.clip(smooth + rng.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8)


def make_picture() -> tuple[Floats, Floats]:
    picture = make_frame(SIZE * 2, SIZE * 2)[:SIZE, :SIZE].transpose(2, 0, 1) / np.float32(
        127.5
    ) - np.float32(1)
    ramp = np.clip(np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1]) / 40, 0, 1).astype(np.float32)
    return np.ascontiguousarray(picture, np.float32), np.outer(ramp, ramp)


def opencv_crop(image: Image, matrix: Matrix, filtered: bool) -> Floats:
    flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101
    if filtered:
        twice = np.column_stack([matrix[:, :2] / 2, matrix[:, 2] - matrix[:, :2] @ (0.25, 0.25)])
        crop = cv2.warpAffine(image, twice, (2 * SIZE, 2 * SIZE), flags=flags, borderMode=border)
        crop = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    else:
        crop = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=flags, borderMode=border)
    crop = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(
        (crop.astype(np.float32) / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)
    )


def opencv_paste(
    frame: Image,
    picture: Floats,
    mask: Floats,
    matrix: Matrix,
    gain: Floats,
    offset: Floats,
    filtered: bool,
) -> None:
    colors = (picture * gain[:, None, None] + offset[:, None, None]) * np.float32(127.5) + np.float32(127.5)
    colors = np.ascontiguousarray(np.clip(colors, 0, 255).transpose(1, 2, 0)[..., ::-1])
    if filtered:
        small = round(SIZE * SHRINKING)
        colors = np.asarray(cv2.resize(colors, (small, small), interpolation=cv2.INTER_AREA), np.float32)
        mask = np.asarray(cv2.resize(mask, (small, small), interpolation=cv2.INTER_AREA), np.float32)
        ratio = SIZE / small
        shift = matrix[:, 2] + matrix[:, :2] @ np.full(2, 0.5 * ratio - 0.5)
        matrix = np.column_stack([matrix[:, :2] * ratio, shift])
    side = colors.shape[0]
    corners = np.array([(x, y) for x in (-0.5, side - 0.5) for y in (-0.5, side - 0.5)])
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, None)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, None, frame.shape[1::-1])
    local = np.column_stack([matrix[:, :2], matrix[:, 2] - (x0, y0)])
    size = (int(x1 - x0), int(y1 - y0))
    warped = cv2.warpAffine(colors, local, size, flags=cv2.INTER_LINEAR)
    alpha = cv2.warpAffine(mask, local, size, flags=cv2.INTER_LINEAR)[..., None]
    region = frame[y0:y1, x0:x1]
    region[:] = (region + (warped - region) * alpha + np.float32(0.5)).astype(np.uint8)


def check(frame: Image, matrix: Matrix) -> None:
    """Raise unless the kernel equals its twin and OpenCV's result up to OpenCV's coarser positions."""
    got, twin = np.empty((2, 3, SIZE, SIZE), np.float32)
    native.warp_crop(frame, matrix, got)
    reference.warp_crop(frame, matrix, twin)
    np.testing.assert_allclose(got, twin, atol=5e-5)
    scale = float(np.hypot(*matrix[:, 0]))
    theirs = opencv_crop(frame, matrix, filtered=scale > 1.25)
    mean_levels = float(np.abs(got - theirs).mean()) * 127.5
    assert mean_levels < 2, f"crop at scale {scale}: {mean_levels:.2f} levels from OpenCV on average"

    picture, mask = make_picture()
    gain, offset = np.array([1.1, 0.9, 1.0], np.float32), np.array([0.05, 0.0, -0.05], np.float32)
    ours, twins, calls = frame.copy(), frame.copy(), frame.copy()
    native.paste(ours, picture, mask, matrix, gain, offset)
    reference.paste(twins, picture, mask, matrix, gain, offset)
    opencv_paste(calls, picture, mask, matrix, gain, offset, filtered=scale < 0.8)
    assert np.abs(ours.astype(int) - twins).max() <= 1
    changed = (ours != frame) | (calls != frame)
    mean_levels = float(np.abs(ours.astype(int) - calls)[changed].mean())
    assert mean_levels < 2, f"paste at scale {scale}: {mean_levels:.2f} levels from OpenCV on average"


clock: Callable[[], float] = time.perf_counter


def time_ms(work: Callable[[], object], repetitions: int) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile in ms, after a tenth of the repetitions for warming up."""
    for _ in range(max(3, repetitions // 10)):
        work()
    times = []
    for _ in range(repetitions):
        start = clock()
        work()
        times.append((clock() - start) * 1e3)
    cuts = statistics.quantiles(times, n=10)
    return statistics.median(times), cuts[0], cuts[-1]


def spread(timing: tuple[float, float, float]) -> str:
    return f"{timing[0]:.3f} ({timing[1]:.3f} .. {timing[2]:.3f})"


def kernel_rows(repetitions: int, threads: int) -> list[str]:
    rows = []
    picture, mask = make_picture()
    gain, offset = np.array([1.1, 0.9, 1.0], np.float32), np.array([0.05, 0.0, -0.05], np.float32)
    out = np.empty((3, SIZE, SIZE), np.float32)
    for label, (height, width) in FRAMES.items():
        frame = make_frame(height, width)
        for kernel, scale in [("crop", s) for s in SCALES] + [("paste", s) for s in (SHRINKING, *SCALES)]:
            matrix = similarity(scale, height, width)
            check(frame, matrix)

            def ours(kernel: str = kernel, frame: Image = frame, matrix: Matrix = matrix) -> None:
                if kernel == "crop":
                    native.warp_crop(frame, matrix, out, threads)
                else:
                    native.paste(frame, picture, mask, matrix, gain, offset, threads)

            def calls(
                filtered: bool,
                kernel: str = kernel,
                frame: Image = frame,
                matrix: Matrix = matrix,
            ) -> None:
                if kernel == "crop":
                    opencv_crop(frame, matrix, filtered)
                else:
                    opencv_paste(frame, picture, mask, matrix, gain, offset, filtered)

            filtered = scale > 1.25 if kernel == "crop" else scale < 0.8
            own = time_ms(ours, repetitions)
            same = time_ms(partial(calls, filtered), repetitions)
            plain = time_ms(partial(calls, False), repetitions) if filtered else same
            rows.append(
                f"| {kernel} | {label} | {scale * SIZE:.0f} | {threads} | {spread(own)} | {spread(same)} | "
                f"**{same[0] / own[0]:.1f}x** | {f'{plain[0]:.3f}' if filtered else '-'} |"
            )
    return rows


def schematic_face(center: Sequence[float], side: float) -> Face:
    """A face whose FFHQ square has about this side."""
    points = np.zeros((N_POINTS, 3))
    around = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    points[list(FACE_OVAL), :2] = np.stack([36 * np.sin(around), 8 - 48 * np.cos(around)], axis=1)
    points[list(RIGHT_EYE), :2], points[list(LEFT_EYE), :2] = (-16, -8), (16, -8)
    points[list(MOUTH_CORNERS), :2] = (-12, 28), (12, 28)
    points *= side / 129.6
    points[:, :2] += center
    return Face(id=0, landmarks=points.astype(np.float32), score=1.0)


def stage_rows(repetitions: int) -> list[str]:
    rows = []
    picture, _ = make_picture()
    for label, (height, width) in FRAMES.items():
        frame = make_frame(height, width)
        face = schematic_face((width / 2, height / 2), height / 2)
        crop = align(frame, face, SIZE)
        timing = time_ms(partial(align, frame, face, SIZE), repetitions)
        rows.append(f"| align | {label} | {height / 2:.0f} | {spread(timing)} |")
        for mode in ("face", "head", "replace"):
            compositor = Compositor(mode)
            timing = time_ms(partial(compositor.apply, frame.copy(), picture, crop, face), repetitions)
            rows.append(f"| composite {mode} | {label} | {height / 2:.0f} | {spread(timing)} |")
    return rows


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        cpu = f"{len(names)} x {names[0]}" if names else cpu
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return (
        f"commit {git.stdout.strip() or 'none'}, {cpu}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, "
        f"OpenCV {cv2.__version__}, kernels: {native.KERNELS}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Check, then time the pixel kernels against OpenCV and NumPy calls."
    )
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, cv2.getNumberOfCPUs()}))
    parser.add_argument("--output", type=Path, help="write the tables here as well")
    parser.add_argument("--cpu-clock", action="store_true", help="time by processor time of one thread")
    options = parser.parse_args()
    if options.cpu_clock:
        global clock
        clock, options.threads = time.thread_time, [1]
    if native.KERNELS != "native":
        print("the C++ kernels are not built: see the head of CMakeLists.txt", file=sys.stderr)
        return 2

    lines = [
        f"{machine()}; {options.repetitions} repetitions, median (10th .. 90th percentile), ms",
        "",
        "| kernel | frame | square px | threads | kernel | OpenCV + NumPy | faster | OpenCV unfiltered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for threads in options.threads:
        cv2.setNumThreads(threads)
        lines += kernel_rows(options.repetitions, threads)
    cv2.setNumThreads(1)
    lines += [
        "",
        "| stage, one thread (replace: all cores) | frame | square px | ms |",
        "|---|---|---|---|",
        *stage_rows(options.repetitions),
    ]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
