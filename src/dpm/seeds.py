"""Random streams that are pure functions of whole numbers: (seed, purpose, step). A resumed run needs no other state."""

import numpy as np
import torch

TRAINING, VALIDATION, HELD_OUT, EVALUATION, SAMPLING, INITIALISATION, NOISE = range(7)


def mix(*entropy: int) -> int:
    """One well-mixed 63-bit seed for a tuple of whole numbers (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def generator(*entropy: int) -> torch.Generator:
    return torch.Generator().manual_seed(mix(*entropy))


def seed_everything(*entropy: int) -> None:
    """Seed the generators that draws without an explicit one use. (torch.manual_seed does the same, at 2 ms a call.)"""
    torch.default_generator.manual_seed(mix(*entropy))
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(mix(*entropy))
