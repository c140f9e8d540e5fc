"""Oracles: reverse processes computed from the exact posterior. No trained network of the same family can do better."""
