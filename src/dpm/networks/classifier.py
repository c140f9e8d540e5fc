"""A small classifier of digits: on MNIST its features and classes take the place of the Inception network's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from dpm import seeds
from dpm.errors import UserError

COMMAND = "python experiments/classifier.py"
CLASSES, FEATURES = 10, 64


class Classifier(nn.Module):
    """Grey levels (B, 1, 28, 28) -> features (B, 64), not negative, and logits (B, 10) that are linear in them.

    Three 3 x 3 convolutions of 16, 32 and 64 channels, a maximum over 2 x 2 after the first two, and one layer of 64 units.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(64 * 7 * 7, FEATURES), nn.ReLU()),
        )
        self.classes = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images.float() / 127.5 - 1)
        return features, self.classes(features)


def fit(
    model: Classifier, images: np.ndarray, labels: np.ndarray, steps: int, batch_size: int, rate: float, seed: int
) -> Iterator[float]:
    """Minimise the cross entropy with Adam, the rate falling to 0 along half a cosine; yields the loss of each step, nats.

    `images` (n, 1, 28, 28) and `labels` (n,), uint8; a batch is a function of (seed, step), drawn with replacement.
    """
    if min(steps, batch_size) < 1 or not rate > 0:
        raise UserError(f"classifier: steps and batch_size from 1, rate > 0, got {steps=}, {batch_size=}, {rate=}")
    optimizer = torch.optim.Adam(model.parameters(), rate)
    scheduler = CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        index = torch.randint(len(images), (batch_size,), generator=seeds.generator(seed, seeds.TRAINING, step)).numpy()
        _, logits = model(torch.tensor(images[index]))
        loss = F.cross_entropy(logits, torch.tensor(labels[index]).long())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        yield loss.item()


@torch.no_grad()
def correct(model: Classifier, images: np.ndarray, labels: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """Whether the most probable class of each image is its label, (n,), 0 or 1."""
    batches = torch.tensor(images).split(batch_size)  # type: ignore[no-untyped-call]
    found = torch.cat([model(batch)[1].argmax(1) for batch in batches])
    right: np.ndarray = found.numpy() == labels
    return right.astype(np.float64)


def load(path: Path) -> Classifier:
    """The classifier whose weights `experiments/classifier.py` wrote to `path`; a UserError says how to get them."""
    if not path.is_file():
        raise UserError(f"no classifier at {path}: train it first by `{COMMAND}`")
    model = Classifier()
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} holds no classifier of digits ({str(error).splitlines()[-1].strip()}); `{COMMAND}`") from error
    return model.eval()
