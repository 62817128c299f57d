"""The computation of each method that is declared in `methods`: make a network, fit it, restore with it."""
