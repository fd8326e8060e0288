"""Measures a bundle: against held-out renders, by an independent judge of edits, and on real clips."""
