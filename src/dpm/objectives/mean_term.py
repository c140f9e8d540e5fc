"""L on the scale of 2020's released code: the mean of its terms over t and over the dimensions."""

import math

from torch import Tensor

from dpm.bound import draw, term
from dpm.reverse import Reverse
from dpm.times import Uniform


class MeanTerm:
    """term_t / (D ln 2), t uniform on 1..T, shape (B,): E = (L - L_T) / (T D) in bits/dim, the decoder being the term at t = 1.

    A constant times the gradient of L: Adam's own step does not see it, but the threshold of a clipped gradient and Adam's
    epsilon do, and those of the paper go with this scale.
    """

    def __call__(self, reverse: Reverse, x_0: Tensor) -> Tensor:
        s, t, _ = Uniform().draw(reverse, x_0, 1)
        return term(reverse, x_0, draw(reverse.process, x_0, t), s, t) / (x_0[0].numel() * math.log(2))
