"""How good, how fast and how large: our methods beside classical ones and published numbers.

Run `python -m benchmarks --help` from the root of the repository. Nothing here needs napari.
"""
