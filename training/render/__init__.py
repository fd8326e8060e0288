"""Procedural people: one parameter set, two pictures (natural and toon), FFHQ-aligned.

`python -m training.render --help` renders a data set; `training.render.dataset.Dataset` reads one back.
Only `dataset` and `features` are importable without Blender.
"""
