"""``python -m doppelgan.export.trackers``."""

from .mediapipe import main

main()
