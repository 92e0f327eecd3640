"""emoray: distributed hyperparameter sweeps for facial-emotion classifiers, on Ray and Keras."""

__version__ = "0.1.0"
