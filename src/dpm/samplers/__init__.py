"""Samplers: generators that walk a reverse process from noise to data."""
