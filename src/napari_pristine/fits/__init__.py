"""Fits: how each method makes its network, fits it and restores with it; what the methods in `methods` declare."""
