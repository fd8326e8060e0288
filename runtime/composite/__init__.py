"""The synthesized face back into the frame.

==============  ====================================================================================
``difference``  only what the edit changes is added to the camera's own picture, and what it moves is
                moved there: skin, hair and light stay the person's
``face``        the face inside its contour, colors matched to the person's: hair and ears stay real
``head``        the whole head with its hair, in a soft oval that ends inside the aligned square
``replace``     nothing of the frame remains: the avatar at full height on its own blurred
                surroundings, tilting with the person
==============  ====================================================================================

``paste`` draws the last three, ``difference`` the first: judged in the few cells of ``masks``, moved as
``movement`` says.
"""

from __future__ import annotations

from typing import Literal

from .difference import Difference
from .paste import Compositor, match_colors

__all__ = ["MODES", "Compositor", "Difference", "Mode", "match_colors"]

Mode = Literal["difference", "face", "head", "replace"]
MODES: tuple[Mode, ...] = ("difference", "face", "head", "replace")
