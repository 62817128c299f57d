"""Many files, one recipe: which result goes where, what it will take, and what became of each."""
