"""Batches: many files, restored by one recipe."""
