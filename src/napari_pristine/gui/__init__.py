"""The only room that knows Qt, magicgui and napari."""
