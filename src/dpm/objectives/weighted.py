"""The bound's terms in the units of the velocity's error: L_simple of 2020, eq. 14, with a variance that learns too."""

from torch import Tensor

from dpm.bound import draw, term
from dpm.reverse.gaussian import GaussianReverse
from dpm.times import Steps, Uniform


class Weighted:
    """w_t term_t, t ~ q over 2..T, shape (B,), with w_t = 2 / (alpha_t^2 (SNR_{t-1} / SNR_t - 1)), SNR = alpha^2 / sigma^2.

    With the fixed variance beta-tilde_t, w_t term_t = |v - v_theta|^2, v = alpha_t eps - sigma_t x_0: the sum over coordinates
    of L_simple for that prediction. A learned variance is trained as by the bound, since no weight moves the best one of a
    term. No bound: q says which noise levels matter.
    """

    wraps = "times"

    def __init__(self, times: Steps | None = None) -> None:
        self.times = times or Uniform()

    def __call__(self, reverse: GaussianReverse, x_0: Tensor) -> Tensor:
        process = reverse.process
        s, t, _ = self.times.draw(reverse, x_0, 2)
        (alpha, sigma), (before, sigma_before) = process.schedule(t), process.schedule(s)
        w = 2 / ((before * sigma / sigma_before).square() - alpha.square())
        loss: Tensor = w.to(x_0.dtype) * term(reverse, x_0, draw(process, x_0, t), s, t)
        return loss
