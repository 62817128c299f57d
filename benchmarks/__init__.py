"""Quality, speed and memory of our methods, beside classical methods and published results.

Run `python -m benchmarks --help` from the root of the repository. napari is not needed.
"""
