"""FID and inception score of samples (2020, Tables 1 and 2), after real images have scored what they must."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dpm import seeds
from dpm.data.images import DiscreteImages
from dpm.errors import UserError
from dpm.evaluators import Evaluation
from dpm.evaluators.drawn import settings
from dpm.evaluators.features import Extractor
from dpm.evaluators.generated import answering, known_claims, of_images
from dpm.evaluators.generation import grey
from dpm.facts import Scalar
from dpm.reverse import facts_of
from dpm.reverse.gaussian import GaussianReverse
from dpm.samplers import last


class SampleScores:
    """`fid` of n samples from the training and from the test images, and `inception_score`, by the network of `extractor`.

    Samples are drawn by `sampler(reverse, x_T)` in batches, of the process that `wrap` makes of the trained one, or of that
    itself. The row with source = test_images is the calibration: the FID of the test images from the training images.
    `claims` maps "is", "fid" and "fid_test" to what the samples answer. Array: the first 24 `samples`.
    """

    def __init__(
        self,
        sampler: Callable[[Any, Tensor], Iterator[Tensor]],
        n: int,
        batch_size: int,
        extractor: Extractor,
        wrap: Callable[[Any], GaussianReverse] | None = None,
        claims: Mapping[str, str] | None = None,
    ) -> None:
        if min(n, batch_size) < 1:
            raise UserError(f"fid: one sample at least, in batches of one at least, got {n=}, {batch_size=}")
        self.sampler, self.n, self.batch_size, self.extractor = sampler, n, batch_size, extractor
        self.wrap, self.claims = wrap or (lambda reverse: reverse), known_claims(claims)

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: DiscreteImages, x_0: Tensor, seed: int) -> Evaluation:
        if not isinstance(data, DiscreteImages):
            raise UserError(f"evaluators=fid: for images of 8 bits, not for {type(data).__name__}")
        score = of_images(data, self.extractor, self.n, self.batch_size)  # before samples are drawn
        real = [m.with_protocol({"source": "test_images"}) for m in score(torch.tensor(data.test))]
        model, one = self.wrap(reverse), x_0[:1].float()
        samples = torch.cat(
            [torch.from_numpy(self.batch(model, one, first, seed)) for first in range(0, self.n, self.batch_size)]
        )
        about: dict[str, Scalar] = {**facts_of(model), **settings(self.sampler), "source": "samples"}
        rows = [answering(m.with_protocol(about), self.claims) for m in score(samples)]
        return Evaluation(
            (*rows, *(m for m in real if m.protocol.get("statistics") != "test")), {"samples": samples[:24].numpy()}
        )

    def batch(self, model: GaussianReverse, one: Tensor, first: int, seed: int) -> Any:
        """The samples from number `first` on, uint8: a function of the seed and of that number."""
        seeds.seed_everything(seed, seeds.SAMPLING, first)
        size = min(self.batch_size, self.n - first)
        return grey(last(self.sampler(model, model.process.prior(one.expand(size, *one.shape[1:])).sample())))
