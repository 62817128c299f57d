"""The command `pristine`."""
