"""One file per kind of source; ``doppelgan.runtime.source`` opens the right one."""
