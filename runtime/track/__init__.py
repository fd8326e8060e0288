"""Where the faces are: a detector finds them, dense landmarks follow them."""

from __future__ import annotations

from .expression import Expression, expression
from .one_euro import OneEuro
from .tracker import Tracker, landmarks_in_crop, suppress

__all__ = ["Expression", "OneEuro", "Tracker", "expression", "landmarks_in_crop", "suppress"]
