"""Training of the network that the package carries, from simulated scenes alone."""
