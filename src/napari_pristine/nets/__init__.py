"""Networks: torch modules that know nothing of images, files or methods."""
