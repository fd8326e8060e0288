"""``python -m doppelgan.runtime.cli``: the command without its installed script."""

from . import main

main()
