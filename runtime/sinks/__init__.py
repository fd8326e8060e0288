"""One file per kind of sink; ``doppelgan.runtime.sink`` opens the right one."""
