"""Random streams that are pure functions of whole numbers: (seed, purpose, step). A resumed run needs no other state."""

import numpy as np
import torch

TRAINING, VALIDATION, HELD_OUT, EVALUATION, SAMPLING = range(5)


def mix(*entropy: int) -> int:
    """One well-mixed 63-bit seed for a tuple of whole numbers (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def generator(*entropy: int) -> torch.Generator:
    return torch.Generator().manual_seed(mix(*entropy))
