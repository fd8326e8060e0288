"""One lesson a file: how a network learns."""
