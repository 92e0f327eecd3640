"""One trial: its training loop, its checkpoint, and the class that Ray Tune runs."""
