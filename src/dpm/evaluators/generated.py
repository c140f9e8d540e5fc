"""What the reverse process of 2020 makes on its way: Figures 6, 7, 9 and 10, samples, and their nearest training images."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm.data.images import DiscreteImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.features import Extractor, InceptionScores, PatchDistance, Score, inception_2015
from dpm.evaluators.generation import Interpolation, Progressive, SharedLatents
from dpm.evaluators.neighbours import neighbours
from dpm.evaluators.patches import of_real_images
from dpm.facts import Scalar
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse
from dpm.study.records import Measurement

SHARES = (1.0, 0.75, 0.5, 0.25)  # of T, at which chains are stopped (Figure 7)
EIGHTHS = [k / 8 for k in range(8, -1, -1)]  # of T, through which images are mixed (Figure 9)
LAMBDAS = [k / 10 for k in range(11)]
SETS = 5  # at least, of real images


class Generated:
    """Everything that a sampler of images is judged by, on `chains` chains of `steps` steps.

    x_0-hat at `columns` times (Figures 6 and 10), of which `shown` chains are shown; `kept` samples and test images; `groups`
    chains that are stopped and completed `completions` times (Figure 7); `pairs` of the held-out images that are mixed
    (Figure 9); `neighbours` of the first `compared` samples among the training images (Figure 12). The quality of predicted
    images is a distance between patches of `side` x `side`, beside sets of as many held-out images. FID and inception score
    join it where `inception` names weights of the Inception network, as torch-fidelity has them; they take 50,000 chains.
    `claims` maps "is", "fid" and "fid_test" to what the samples themselves answer.
    """

    def __init__(
        self,
        chains: int,
        steps: int,
        columns: int,
        shown: int,
        kept: int,
        groups: int,
        completions: int,
        pairs: int,
        neighbours: int,
        compared: int,
        side: int,
        batch_size: int,
        wrap: Callable[[Any], GaussianReverse],
        inception: str | None = None,
        claims: Mapping[str, str] | None = None,
    ) -> None:
        self.chains, self.steps, self.columns, self.shown, self.kept = chains, steps, columns, shown, kept
        self.groups, self.completions, self.pairs = groups, completions, pairs
        self.neighbours, self.compared, self.side, self.batch_size = neighbours, compared, side, batch_size
        self.wrap, self.inception, self.claims = wrap, inception, known_claims(claims)

    def __call__(self, reverse: GaussianReverse, data: DiscreteImages, x_0: Tensor, seed: int) -> Evaluation:
        if not isinstance(data, DiscreteImages):
            raise UserError(f"evaluators=generation: for images of 8 bits, not for {type(data).__name__}")
        T, test = len(reverse.process.schedule), data.test[: len(x_0)]
        distance, of_network = PatchDistance(data.train, self.side), self.scores(data, x_0.device)
        least, spread = floor(distance, test, self.chains)
        of_test = [m.with_protocol({"source": "test_images"}) for score in of_network for m in score(torch.tensor(data.test))]
        scores = [distance, *of_network]
        evaluators = (
            Progressive(self.chains, self.steps, self.columns, self.shown, self.batch_size, scores, self.wrap),
            SharedLatents([round(share * T) for share in SHARES], self.groups, self.completions, self.steps, self.wrap),
            Interpolation([round(share * T) for share in EIGHTHS], LAMBDAS, self.pairs, self.steps, self.wrap),
        )
        parts = [evaluator(reverse, data, x_0[: 2 * self.pairs], seed) for evaluator in evaluators]
        samples = parts[0].arrays["samples"]
        first = torch.from_numpy(samples[: self.compared])
        parts.append(neighbours(first, test, data.train, self.neighbours, self.shown))
        rows = [least, *of_test, *(m for part in parts for m in part.measurements)]
        arrays = {key: array for part in parts for key, array in part.arrays.items()}
        about = facts_of(self.wrap(reverse))
        answered = tuple(self.answering(m.with_protocol(about), T) for m in rows)
        kept = {"samples": samples[: self.kept], "test_images": test[: self.kept]}
        return Evaluation(answered, {**arrays, **kept, "patch_distance_floor": spread})

    def scores(self, data: DiscreteImages, device: torch.device) -> list[Score]:
        """FID and IS, calibrated on real images, where there are weights for them."""
        if self.inception is None:
            return []
        return [of_images(data, inception_2015(self.inception, str(device)), self.chains, self.batch_size)]

    def answering(self, m: Measurement, T: int) -> Measurement:
        """Of the samples themselves, the last column: their inception score, FID, and FID against test images answer claims."""
        last: dict[str, Scalar] = {"source": "samples", "reverse_step": T}
        return answering(m, self.claims) if last.items() <= m.protocol.items() else m


def of_images(data: DiscreteImages, extractor: Extractor, n: int, batch_size: int) -> InceptionScores:
    """FID and IS for n images, calibrated on all training and test images."""
    whole, real = np.concatenate([data.train, data.kept]), extractor.cifar10 if data.name == "cifar10" else None
    return InceptionScores(extractor.network, extractor.name, whole, data.test, n, batch_size, real)


def answering(m: Measurement, claims: Mapping[str, str]) -> Measurement:
    """With the claim that `claims` has for an inception score (is), an FID (fid), or one against test images (fid_test)."""
    names = {"inception_score": "is", "fid": "fid" if m.protocol.get("statistics") == "train" else "fid_test"}
    return replace(m, claim=claims.get(names.get(m.quantity, "")))


def known_claims(claims: Mapping[str, str] | None) -> dict[str, str]:
    if unknown := (claims or {}).keys() - {"is", "fid", "fid_test"}:
        raise UserError(f"samples answer claims as is, fid and fid_test, not as {', '.join(sorted(unknown))}")
    return dict(claims or {})


def floor(distance: PatchDistance, test: np.ndarray, n: int) -> tuple[Measurement, np.ndarray]:
    """The distance of n test images, or fewer, from `SETS` disjoint sets at least: with its error, and with their deviation."""
    n = min(n, len(test) // SETS)
    row = of_real_images(distance, test, n)
    assert row.stderr is not None
    return row, np.array([row.value, row.stderr * math.sqrt(float(row.protocol["sets"]))])
