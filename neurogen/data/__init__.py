"""Datasets: one contract (dataset.py), loaders (images.py)."""

from neurogen.data.identity import identity

__all__ = ["identity"]
