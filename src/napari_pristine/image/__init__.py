"""What an image is and how it is cut, scaled, measured and put together again: numpy only."""
