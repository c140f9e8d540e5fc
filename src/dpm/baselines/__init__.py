"""Baselines: models other than diffusion that the papers compare with, fitted to the same data."""
