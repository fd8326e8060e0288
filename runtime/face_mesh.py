"""Where things are in the 468-point face mesh (MediaPipe's canonical topology).

``LEFT`` and ``RIGHT`` are the person's own; the right eye is on the left of an unmirrored picture.
Contours run around the feature, so that they can be filled or drawn in order.
"""

from __future__ import annotations

from typing import Final

N_POINTS: Final = 468

RIGHT_EYE: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
MOUTH_CORNERS: Final = (61, 291)  # image left, image right of an unmirrored face
LIPS: Final = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip

FACE_OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
