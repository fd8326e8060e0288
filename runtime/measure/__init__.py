"""Measuring: what is fastest here (`compile`), and how fast it is (`bench`)."""
