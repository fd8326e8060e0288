"""Fits the demo's networks to rendered people: generator, its toon sister, encoder, edit directions.

`python -m training.fit --data DIR --out DIR --minutes M` runs everything; `training/README.md` explains it.
"""
