"""Edits on the camera's own picture: ``frame + (G(edited code) - G(code))``.

Whatever the generator cannot draw of a person is in both of its pictures and cancels out. Six things are
taken care of:

light      the difference is scaled to the person's light, and goes no further than the edited picture's color
leaks      differences far below the edit's own are none; nor are those beside the face if the edit is on it
occlusion  where camera and reconstruction disagree, something stands before the face: nothing is added
movement   pixels go where the mesh goes; of what is left only new looks are added, and what shows between
           lids and lips: the rest would be ghosts of outlines
place      an edit is held on the face while the square, which is built from eyes and mouth, breathes
hue        of edits that fade colors, it is the person's own that fades
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from .. import native
from ..face_mesh import FACE_OVAL
from ..types import Crop, Floats, Image, Matrix
from .anchor import Anchor
from .hues import gone, hue_of, luma_of, paler
from .masks import Agreement, Light, belonging, cells_of, covered, means, reachable, strength
from .movement import FAR, flow_of, parting, parting_rows, remains
from .regions import DIRECTIONS, draw_region, fade_of, reach_of, rescaled, window_of

EDGE: Final = 0.11  # of the side, over which the difference fades to nothing
PAUSE_S: Final = 1.0  # after a longer one nothing is left to be steady with
FINEST: Final = 0.8  # pixels of the picture per pixel of the frame that are worth drawing
COARSEST_PX: Final = 64
ON_FACE: Final = (0.98, 0.2)  # of the oval's reach: where an edit of the face may be; so much more downward
_MAY_REACH: Final = ON_FACE[0] + ON_FACE[1] * np.maximum(DIRECTIONS[1], 0) ** 2  # beards reach below the chin
SURE: Final = 0.85  # of a leak: a coarse picture may show so much less of what a fine one adds
SEEN: Final = 0.02  # 0..2: two levels and a half; less is not seen
_OVAL: Final = np.array(FACE_OVAL)


class Difference:
    """Adds a person's edits to frame after frame; remembers light, what hides and place, nothing of edits."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far, e.g. at a cut."""
        self._forget()
        self._time_s: float | None = None
        self._size = 0

    def _forget(self) -> None:
        self._anchor, self._light, self._agreement = Anchor(), Light(), Agreement()
        self._regions: tuple[Floats, Floats] | None = None  # face and near, [n,n] each, of the latest frame

    def size_for(self, crop: Crop, largest: int, needed: int) -> int:
        """Side of the pictures to ask for, px: as fine as the face in the frame, and as the edits, need.

        largest: the generator's.  needed: for the edits' own detail, as in :class:`Effect`.
        """
        side = float(np.hypot(*crop.matrix[:, 0])) * crop.size * FINEST
        size = largest
        while size > COARSEST_PX and (size // 2 >= side or size // 2 >= needed):
            size //= 2
        if size == self._size // 2 and self._size <= largest and size < 1.15 * side and needed > size:
            return self._size  # a face at the limit must not make it change from frame to frame
        self._size = size
        return size

    def rows(
        self,
        pictures: Sequence[Floats],  # RGB float32 [3,n,n]: coarse ones, two or three as of :func:`parts_of`
        crop: Crop,
        shift: Floats | None,  # as for :meth:`apply`
    ) -> tuple[int, int]:
        """First and end of the rows in which an edit adds anything; the others need no finer pictures."""
        plain, moved, edited = parts_of(pictures, shift is not None)
        cells = plain.shape[-1]
        if self._regions is None or self._regions[0].shape[-1] != cells:
            self._regions = _face_and_near(_points(crop, cells), cells)
        face, near = self._regions  # at most a frame old, which is near enough
        change = np.zeros((cells, cells), np.float32) if edited is moved else _apart(edited, moved)
        wanted = np.zeros(cells, bool)
        if shift is not None:
            by = shift.astype(np.float64) * cells
            left = remains(by, cells)
            if left:
                change = np.maximum(change, np.float32(left) * face * _apart(moved, plain))
            for first, end in parting_rows(_points(crop, cells) + by, by, cells):
                wanted[max(math.floor(first), 0) : max(math.ceil(end) + 1, 0)] = True
        if change.max() > SEEN:
            strong = strength(change, SURE)
            added = change * strong * belonging(strong, change, face, near)
            wanted |= (added * fade_of(EDGE, cells) > SEEN).any(axis=1)
        chosen = np.flatnonzero(wanted)
        if not len(chosen):
            return 0, 0
        # In larger steps, so that a face that hardly moves has the same rows in every frame.
        step = max(cells // 32, 1)
        first, end = int(chosen[0]) - 1, int(chosen[-1]) + 2
        return max(first // step * step, 0), min(-(-end // step) * step, cells)

    def apply(
        self,
        frame: Image,  # BGR uint8 [H,W,3]; changed in place
        plain: Floats,  # RGB float32 [3,R,R], nominally -1..1: of the person's own code
        moved: Floats,  # the same after the edits that move things; plain itself without such
        edited: Floats,  # after all edits; moved itself where no other is there
        crop: Crop,  # the aligned square, of the frame as the camera gave it
        shift: Floats | None,  # [468,2], shares of the square's side: what the edits move the mesh by
        time_s: float,  # of the frame
        fades: bool = False,  # whether of the edits that change looks all take color away and bring none
    ) -> Image:
        """Add the edit where ``crop`` was cut; returns ``frame``."""
        size = plain.shape[-1]
        if not plain.shape == moved.shape == edited.shape == (3, size, size):
            shapes = [list(picture.shape) for picture in (plain, moved, edited)]
            raise ValueError(f"pictures: expected three RGB float32 [3,R,R] of one size, got {shapes}")
        plain, moved, edited = (np.ascontiguousarray(one, np.float32) for one in (plain, moved, edited))
        cells = cells_of(size)
        step_s = self._step(time_s)

        seen, drawn = means(crop.pixels[0], cells), means(plain, cells)
        seen += 1
        drawn += 1
        np.maximum(drawn, 0, out=drawn)
        points = _points(crop, size)
        place = self._anchor(seen, drawn, _in_cells(points, size, cells), step_s)
        points, seen = place.inverse().moved(points, size), place.read(seen)
        self._regions = face, near = _face_and_near(_in_cells(points, size, cells), cells)
        now, gain = self._light(seen, drawn, face, step_s)
        lit = now * drawn
        agreement = self._agreement(seen - lit, face, step_s)

        faded = None
        if fades:
            now, gain = paler(now), paler(gain)
            faded = gone(drawn, np.maximum(means(edited, cells) + 1, 0))
            edited = native.lightened(moved, edited, native.THREADS)

        flow = inside = rest = None
        if shift is not None and np.abs(shift).max() * size >= native.reference.STILL:
            by = shift.astype(np.float64) * size
            to = points + by
            flow, inside = flow_of(to, by, size, cells, agreement), parting(to, by, size, cells)
            rest = (1 - inside) * face * np.float32(remains(by, size))

        change = np.empty((3, size, size), np.float32)
        amplitude = np.empty((cells, cells), np.float32)
        changed_to = np.empty((6, cells, cells), np.float32)
        native.difference(
            change, amplitude, plain, moved, edited, flow, inside, rest, native.THREADS, changed_to
        )

        added, target = changed_to[:3], changed_to[3:]
        target += 1
        target = now * np.minimum(np.maximum(target, 0, out=target), 2, out=target)
        added *= now
        missing = target - seen
        if faded is not None:
            missing = (luma_of(target) - luma_of(seen)) * (now / luma_of(now))
            amplitude = np.maximum(amplitude, faded * np.abs(hue_of(drawn)).max(axis=0))
        limit = reachable(added, missing, covered(added, lit), near)
        strong = strength(amplitude)
        maps = strong, belonging(strong, amplitude, face, near), agreement, window_of(EDGE, cells)
        # Between lids and lips nothing of the person's is to be reached; elsewhere the cells have moved.
        added = native.amounts(gain, limit, maps, flow, inside, FAR * size)
        if faded is not None:
            share = np.asarray(faded * np.prod(maps, axis=0), np.float32)
            to_frame = place.before(rescaled(crop.matrix, crop.size, cells), cells)
            native.fade_pixels(frame, share, gain / luma_of(gain), to_frame, native.THREADS)
        matrix = place.before(rescaled(crop.matrix, crop.size, size), size)
        native.add_difference(frame, change, added, flow, matrix, native.THREADS)
        return frame

    def _step(self, time_s: float) -> float | None:
        """Seconds since the frame before; None, and all forgotten, where there is none to be steady with."""
        step_s = None if self._time_s is None else time_s - self._time_s
        if step_s is not None and not 0 < step_s <= PAUSE_S:
            self._forget()
            step_s = None
        self._time_s = time_s
        return step_s


def parts_of(pictures: Sequence[Floats], moves: bool) -> tuple[Floats, Floats, Floats]:
    """Plain, moved, edited, of a person's own picture, that of the edits that move things, that of all.

    Of two, the second is that of all edits, which either all move things or all do not.
    """
    if len(pictures) == 3:
        plain, moved, edited = pictures
        return plain, moved, edited
    plain, edited = pictures
    return plain, edited if moves else plain, edited


def _apart(a: Floats, b: Floats) -> Floats:
    """[n,n] 0..2: by how much two pictures [3,n,n] differ in any channel."""
    return np.asarray(np.abs(np.clip(a, -1, 1) - np.clip(b, -1, 1)).max(axis=0), np.float32)


def _face_and_near(points: Matrix, cells: int) -> tuple[Floats, Floats]:
    """[cells,cells] 0..1, two of them: inside the face's oval, and where what is on a face may reach."""
    oval = points[_OVAL]
    middle = oval.sum(axis=0) / len(oval)
    reach = reach_of(oval - middle)
    width, fade = 0.03 * cells, fade_of(0.0, cells)
    face, near = (draw_region(cells, middle, by * reach, width, fade) for by in (1.0, _MAY_REACH))
    return face, near


def _points(crop: Crop, size: int) -> Matrix:
    """float64 [468,2]: the mesh as pixels of a size x size picture of the square."""
    return (crop.landmarks[:, :2].astype(np.float64) + 0.5) * (size / crop.size) - 0.5


def _in_cells(points: Matrix, size: int, cells: int) -> Matrix:
    """The same as cells along a side."""
    return (points + 0.5) * (cells / size) - 0.5
