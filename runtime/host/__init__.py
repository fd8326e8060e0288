"""This machine: what it is, and its files."""
