"""Datasets: one contract (dataset.py), loaders (images.py, texts.py), what targets read (preparation.py,
tokenised.py)."""

from neurogen.data.identity import identity

__all__ = ["identity"]
