"""Physics: how a picture came from its scene, as values that are applied one after the other; torch only."""
