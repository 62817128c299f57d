"""Panels, sample data and layers in napari; the only package that imports Qt, magicgui and napari."""
