"""Restoring and training as jobs that can be watched and stopped."""
