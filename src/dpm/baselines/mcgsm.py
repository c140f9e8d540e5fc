"""Mixtures of conditional Gaussian scale mixtures (Theis, Hosseini, Bethge 2012), the rival of 2015's Table 2 and Figure 4.

A pixel is predicted from its causal neighbourhood, the pixels above and to the left of it within a window, and the log
likelihood of an image is the sum over its pixels (chain rule).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpm import seeds
from dpm.baselines import maximised
from dpm.errors import UserError
from dpm.facts import Scalar


class MCGSM(nn.Module):
    """p(x | h) = sum over c, s of p(c, s | h) N(x; a_c . h, 1 / lambda_cs) for a number x given D numbers h.

    p(c, s | h) ~ exp(eta_cs - lambda_cs / 2 sum_k beta_ck^2 (b_k . h)^2): c is a component and s one of its scales; this is
    what a mixture of Gaussian scale mixtures for (h, x) implies, with features b_k that its components share (as in the
    authors' package, cmt).

    The formulas hold in coordinates that `precondition` takes from the data: h is whitened and a 1 appended (so predictions
    and features have a bias); x is what linear regression on h leaves, divided by its standard deviation.
    """

    def __init__(self, inputs: int, components: int, scales: int, features: int) -> None:
        super().__init__()
        if min(inputs, components, scales, features) < 1:
            raise UserError(f"MCGSM: at least one of each, got {inputs=}, {components=}, {scales=}, {features=}")
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("whitening", torch.eye(inputs))
        self.register_buffer("regression", torch.zeros(inputs + 1))
        self.register_buffer("residual", torch.ones(()))
        self.eta = nn.Parameter(torch.zeros(scales, components))
        self.log_lambda = nn.Parameter(torch.linspace(-1, 4, scales)[:, None] + 0.3 * torch.randn(scales, components))
        self.a = nn.Parameter(0.1 * torch.randn(components, inputs + 1))
        self.b = nn.Parameter(0.3 * torch.randn(features, inputs + 1))
        self.beta = nn.Parameter(0.1 + 0.1 * torch.rand(components, features))

    mean: Tensor
    whitening: Tensor
    regression: Tensor
    residual: Tensor

    @torch.no_grad()
    def precondition(self, h: Tensor, x: Tensor) -> None:
        """The coordinates that the pairs h (N, D), x (N,) suggest; directions in which h does not vary are left out."""
        mean, n = h.double().mean(0), len(x)
        variances, directions = torch.linalg.eigh((h.T @ h).double() / n - torch.outer(mean, mean))
        scales = torch.where(variances > 1e-6 * variances.max(), variances, math.inf).rsqrt()
        self.mean.copy_(mean)
        self.whitening.copy_(directions * scales)
        white = self.white(h)
        self.regression.copy_(white.T @ x / n)
        self.residual.copy_((x - white @ self.regression).square().mean().sqrt())

    def white(self, h: Tensor) -> Tensor:
        """(N, D) -> (N, D + 1): white, and a last column of ones."""
        return F.pad((h - self.mean) @ self.whitening, (0, 1), value=1.0)

    def gates(self, white: Tensor) -> Tensor:
        """log p(c, s | h) but for a constant, (N, S, C)."""
        energies = (white @ self.b.T).square() @ self.beta.square().T
        return self.eta - self.log_lambda.exp() / 2 * energies[:, None]

    def log_density(self, h: Tensor, x: Tensor) -> Tensor:
        """log p(x | h) in nats, (N,), for h (N, D) and x (N,)."""
        white = self.white(h)
        gates, y = self.gates(white), (x - white @ self.regression) / self.residual
        errors = (y[:, None] - white @ self.a.T).square()
        joint = gates + self.log_lambda / 2 - self.log_lambda.exp() / 2 * errors[:, None]
        return joint.logsumexp((1, 2)) - gates.logsumexp((1, 2)) - math.log(2 * math.pi) / 2 - self.residual.log()

    def sample(self, h: Tensor) -> Tensor:
        """x ~ p(x | h), (N,)."""
        white = self.white(h)
        gates = self.gates(white).flatten(1)
        chosen = (gates - torch.empty_like(gates).exponential_().log()).argmax(1)  # Gumbel's way to draw (c, s)
        mean = (white * self.a[chosen % len(self.a)]).sum(1)
        noise = torch.randn_like(mean) * (-self.log_lambda.flatten()[chosen] / 2).exp()
        return white @ self.regression + self.residual * (mean + noise)


def fit(model: MCGSM, h: Tensor, x: Tensor, steps: int, batch_size: int, rate: float, seed: int) -> Iterator[float]:
    """Maximise the mean log p(x | h) of the pairs, in batches of them."""
    model.precondition(h, x)

    def log_density(generator: torch.Generator) -> Tensor:
        index = torch.randint(len(x), (batch_size,), generator=generator)
        return model.log_density(h[index], x[index])

    yield from maximised(model, log_density, steps, rate, seed)


class MCGSMImages(nn.Module):
    """p(x) = product over the pixels of p(pixel | neighbours) for grey images (B, 1, H, W).

    The neighbours are the D = 2 reach (reach + 1) pixels within `reach` that come before the pixel in the order of reading.
    Where all of them exist, `inside` predicts the pixel; the model of 2012 is this one, and leaves the other pixels out. They
    are predicted by `border`: its h has 0 in place of a neighbour that does not exist, and says how near the edges are.
    """

    def __init__(self, reach: int, components: int, scales: int, features: int) -> None:
        super().__init__()
        if reach < 1:
            raise UserError(f"MCGSM: a neighbourhood reaches one pixel at least, got reach = {reach}")
        self.reach, self.size = reach, 2 * reach * (reach + 1)
        self.facts: dict[str, Scalar] = {"reach": reach, "components": components, "scales": scales, "features": features}
        self.inside = MCGSM(self.size, components, scales, features)
        self.border = MCGSM(self.size + 3 * reach, components, scales, features)

    def neighbours(self, x: Tensor) -> Tensor:
        """(B, H W, D): the first D pixels of a window of side 2 reach + 1 around each pixel, 0 off the image."""
        r = self.reach
        windows = F.unfold(F.pad(x, (r, r, r, 0)), (r + 1, 2 * r + 1))
        return windows[:, : self.size].transpose(1, 2)

    def edges(self, height: int, width: int) -> Tensor:
        """(H W, 3 reach) of 0 and 1: whether there is a k-th pixel above, to the left and to the right, k = 1..reach."""
        row, column, k = torch.arange(height), torch.arange(width), torch.arange(1, self.reach + 1)
        above = (row[:, None] >= k)[:, None].expand(-1, width, -1)
        left, right = ((c[:, None] >= k).expand(height, -1, -1) for c in (column, column.flip(0)))
        return torch.cat([above, left, right], -1).flatten(0, 1).float()

    def parts(self, h: Tensor, edges: Tensor) -> Iterator[tuple[MCGSM, Tensor, Tensor]]:
        """(model, which of the P pixels it predicts, what from (B, pixels, D)) for h (B, P, D) and edges (P, 3 reach)."""
        complete = edges.all(1)
        yield self.inside, complete, h[:, complete]
        about = edges[~complete].expand(len(h), -1, -1)
        yield self.border, ~complete, torch.cat([h[:, ~complete], about], -1)

    @torch.no_grad()
    def log_density(self, x: Tensor) -> Tensor:
        """(B, H, W): the logarithm of each factor in nats; their sum is log p(x)."""
        pixels = x.flatten(1)
        log_p = torch.empty_like(pixels)
        for model, where, h in self.parts(self.neighbours(x), self.edges(*x.shape[2:])):
            log_p[:, where] = model.log_density(h.flatten(0, 1), pixels[:, where].flatten()).reshape(len(x), -1)
        return log_p.reshape(len(x), *x.shape[2:])

    @torch.no_grad()
    def sample(self, n: int, height: int, width: int) -> Tensor:
        """(n, 1, H, W). Pixels with equal column + (reach + 1) row are drawn at once: none is a neighbour of another."""
        r, edges = self.reach, self.edges(height, width)
        x = torch.zeros(n, height + r, width + 2 * r)
        order = torch.arange(self.size)
        down, across = order // (2 * r + 1), order % (2 * r + 1)
        for front in range(width + (r + 1) * (height - 1)):
            row = torch.arange(height)
            row = row[((r + 1) * row <= front) & (front < (r + 1) * row + width)]
            column = front - (r + 1) * row
            h = x[:, row[:, None] + down, column[:, None] + across]
            for model, where, context in self.parts(h, edges[row * width + column]):
                x[:, row[where] + r, column[where] + r] = model.sample(context.flatten(0, 1)).reshape(n, -1)
        return x[:, None, r:, r : r + width]

    def pairs(self, model: MCGSM, x: Tensor, per_image: int, seed: int) -> tuple[Tensor, Tensor]:
        """(h, x) to fit `model` (`inside` or `border`) to: up to `per_image` of its pixels, at random, of each image."""
        generator, edges = seeds.generator(seed, seeds.TRAINING), self.edges(*x.shape[2:])
        contexts, pixels = [], []
        for batch in x.split(100):  # type: ignore[no-untyped-call]
            _, where, h = next(part for part in self.parts(self.neighbours(batch), edges) if part[0] is model)
            chosen = torch.randperm(int(where.sum()), generator=generator)[:per_image]
            contexts.append(h[:, chosen].flatten(0, 1))
            pixels.append(batch.flatten(1)[:, where][:, chosen].flatten())
        return torch.cat(contexts), torch.cat(pixels)


def fit_images(
    images: MCGSMImages, x: Tensor, steps: int, batch_size: int, rate: float, per_image: int, seed: int
) -> Iterator[float]:
    """Fit both mixtures, `steps` each, to up to `per_image` pixels of each part of each of the images x."""
    for model in (images.inside, images.border):
        yield from fit(model, *images.pairs(model, x, per_image, seed), steps, batch_size, rate, seed)
