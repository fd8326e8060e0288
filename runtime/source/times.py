"""Times that only go forward: of the packets of a file, and of the frames decoded from them.

A file that was joined, cut or cleaned badly has clocks that start again, go back, jump by a day or are
missing. `Timeline` corrects packets as the ffmpeg program does, the same for pictures and sound, so that
whoever opens the file a second time for its sound gets the same corrections. `Steady` does what is left to do
for pictures.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av

# Formats whose pieces people join with `cat`; only there is a long silence taken for a joint.
JOINABLE = {"mpegts", "mpeg", "hls", "rtsp", "rtp", "sdp", "flv", "live_flv", "dv", "rm"}
BACK_S = Fraction(1, 10)  # so far back is a clock that starts again, less is jitter
JOINT_S = 10  # so far ahead is a joint, in formats that are joined
# Other formats mean what they say, unless they begin so late or so early; all of ffmpeg's begin at 0.
LATE_S, EARLY_S = 1, Fraction(-1, 10)
HIGHEST_RATE = 1000  # frames/s; above, a header does not know
LONGEST_S = 12 * 3600  # so far ahead is an error in any format; also what a file of 90 kHz can state


class Timeline:
    """Corrects the times of a container's packets, in the order in which they are read.

    joints   how often a clock started again
    start_s  seconds in the file at which the corrected time is 0: where its first track begins, or 0
    """

    def __init__(self, container: Any) -> None:
        self._joinable = bool(JOINABLE & set(container.format.name.split(",")))
        start_s = Fraction(container.start_time or 0, av.time_base)
        anywhere = self._joinable or start_s >= LATE_S or start_s <= EARLY_S
        self.start_s = start_s if anywhere else Fraction(0)
        streams = getattr(container, "streams", None)
        self._rates = {s.index: _rate(s) for s in streams.video} if streams is not None else {}
        # One part after the other; every stream passes a joint at its own packet.
        self._shifts_s = [-self.start_s]
        self._parts: dict[int, int] = {}  # by stream, which part its newest packet belongs to
        self._last_s: dict[int, Fraction] = {}  # by stream, decoding time of its newest packet, corrected
        self._expected_s: dict[int, Fraction] = {}  # and where the next is expected

    @property
    def joints(self) -> int:
        return len(self._shifts_s) - 1

    def place(self, packet: Any) -> None:
        """Correct ``packet.pts`` and ``packet.dts``."""
        if packet.time_base is None:
            return
        base, key = Fraction(packet.time_base), packet.stream.index
        part = self._parts.setdefault(key, self.joints)
        if packet.dts is not None:
            part = self._follow(key, packet.dts * base, packet.duration * base if packet.duration else 0)
        ticks = round(self._shifts_s[part] / base)
        if packet.pts is not None:
            packet.pts += ticks
        if packet.dts is not None:
            packet.dts += ticks

    def _follow(self, key: int, decoded_s: Fraction, lasts_s: Fraction | int) -> int:
        part, expected_s = self._parts[key], self._expected_s.get(key)
        if expected_s is not None:
            ahead_s = [decoded_s + shift_s - expected_s for shift_s in self._shifts_s]
            limit_s = JOINT_S if self._joinable else LONGEST_S
            jumped = decoded_s + self._shifts_s[part] + BACK_S < self._last_s[key] or ahead_s[part] > limit_s
            if part < self.joints and (jumped or abs(ahead_s[part + 1]) < abs(ahead_s[part])):
                # Another stream was here before. Sound that overlaps is left out by whoever writes it;
                # pictures have room: then all of this part comes later.
                part += 1
                if key in self._rates and ahead_s[part] < 0:
                    self._shifts_s[part] -= ahead_s[part]
            elif jumped:
                part = len(self._shifts_s)
                self._shifts_s.append(self._shifts_s[-1] - ahead_s[-1])
        self._parts[key] = part
        self._last_s[key] = decoded_s + self._shifts_s[part]
        rate = self._rates.get(key)
        self._expected_s[key] = self._last_s[key] + (lasts_s or (1 / rate if rate else 0))
        return part


def _rate(stream: Any) -> Fraction | None:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate and 0 < rate <= HIGHEST_RATE else None


class BestEffort:
    """Which of a frame's two times to believe: its own, unless those go back more often than the others.

    (The rule of FFmpeg's ``best_effort_timestamp``, which PyAV does not hand out.)
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0

    def __call__(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        believed = pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts)
        return pts if believed else dts


class Steady:
    """Presentation times that grow from frame to frame, also where a file has none, or the same twice."""

    def __init__(self, rate: Fraction) -> None:
        self._period_s = 1 / rate
        self._last_s: Fraction | None = None
        self._in_a_row = 0
        self.repaired = 0

    def __call__(self, moment_s: Fraction | None) -> Fraction:
        """The time of the next frame. moment_s: what the file says, None if nothing."""
        last_s = self._last_s
        if last_s is None:
            moment_s = moment_s or Fraction(0)
        elif moment_s is None:
            moment_s = last_s + self._period_s
        elif moment_s <= last_s:
            # One that strayed lies between its neighbors; several are a clock that stands still.
            self._in_a_row += 1
            self.repaired += 1
            moment_s = last_s + (self._period_s / 2 if self._in_a_row == 1 else self._period_s)
        else:
            if moment_s - last_s > LONGEST_S:
                moment_s = last_s + self._period_s
                self.repaired += 1
            self._in_a_row = 0
        self._last_s = moment_s
        return moment_s
