"""Images restored from linear observations by the shipped networks: inpainting, deblurring, subsampling."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpm import seeds
from dpm.decoders import Network
from dpm.errors import UserError
from dpm.evaluators import Array, Evaluation
from dpm.evaluators.distortion import mean_square
from dpm.evaluators.samples import levels
from dpm.facts import Scalar
from dpm.observations import Blur, Mask, Observation, Operator, Subsampled, gaussian_kernel, observed
from dpm.reverse.gaussian import GaussianReverse, clipped
from dpm.samplers import last
from dpm.samplers.ancestral import ancestral, grid
from dpm.study.records import Measurement, standard_error

TASKS = ("inpainting", "deblurring", "subsampling")


class Restored:
    """PSNR of single samples and of their mean, and how well their spread says what the mean misses.

    The first n examples, a hole of half their extent in the middle (`inpainting`), a Gaussian blur (`deblurring`) and means of
    4 x 4 blocks (`subsampling`), or some of these `tasks`, each with `noise` (of data in [-1, 1]). `draws` samples an image by
    each of `methods`, in `sweeps` of each step, from a reverse process whose x_0-hat is clipped. `spread_ratio`: standard
    deviation of the samples over the root mean square error of their mean, corrected for their finite number; 1 where samples
    are the posterior's. Arrays, of the first 2: `original`, and for each task `<task>_observed` (A^T y), `<task>_<method>` (a
    sample) and `_spread` (standard deviation, grey levels).
    """

    def __init__(
        self,
        methods: Mapping[str, Callable[[Any, Observation], Any]],
        n: int,
        draws: int,
        steps: int,
        noise: float,
        tasks: Sequence[str] = TASKS,
        sweeps: int = 1,
    ) -> None:
        if unknown := set(tasks) - set(TASKS):
            raise UserError(f"restored: no task {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}")
        if n < 2 or draws < 2 or not noise > 0:
            raise UserError(f"restored: two images, two draws of each and some noise at least, got {n=}, {draws=}, {noise=}")
        self.methods, self.n, self.draws, self.steps, self.noise = methods, n, draws, steps, noise
        self.tasks, self.sweeps = tasks, sweeps

    def operators(self, x: Tensor) -> dict[str, Operator]:
        known = torch.ones_like(x[0], dtype=torch.bool)
        rows, columns = (slice(extent // 4, extent - extent // 4) for extent in x.shape[2:])
        known[:, rows, columns] = False
        blur = Blur(gaussian_kernel(7, 1.5).to(x))
        return dict(zip(TASKS, (Mask(known), blur, Subsampled(4)), strict=True))

    @torch.no_grad()
    def __call__(self, reverse: GaussianReverse, data: object, x_0: Tensor, seed: int) -> Evaluation:
        free, x = clipped(reverse.replacing(decoder=Network())), x_0[: self.n]
        times, rows = grid(len(free.process.schedule), self.steps), []
        arrays: dict[str, Array] = {"original": levels(grey(x[:2]))}
        for number, (task, A) in enumerate(self.operators(x).items()):
            if task not in self.tasks:
                continue
            seeds.seed_everything(seed, seeds.EVALUATION, number)
            seen = observed(A, x, self.noise)
            arrays[f"{task}_observed"] = levels(grey(A.adjoint(seen.y)[:2] * (16 if task == "subsampling" else 1)))
            repeated = Observation(A, seen.y.repeat_interleave(self.draws, 0), self.noise)
            for name, method in self.methods.items():
                seeds.seed_everything(seed, seeds.SAMPLING, number)
                x_T = torch.randn(len(x) * self.draws, *x.shape[1:], dtype=x.dtype, device=x.device)
                x_0 = last(ancestral(method(free, repeated), x_T, times, self.sweeps)).clamp(-1, 1)
                samples = x_0.reshape(len(x), self.draws, *x.shape[1:])
                rows += self.measured(
                    samples, x, {"task": task, "method": name, "sampling_steps": len(times) - 1, "sweeps": self.sweeps}
                )
                arrays[f"{task}_{name}"] = levels(grey(samples[:2, 0]))
                arrays[f"{task}_{name}_spread"] = (127.5 * samples[:2].std(1)).round().byte().cpu().numpy()
        return Evaluation(tuple(rows), arrays)

    def measured(self, samples: Tensor, x: Tensor, about: dict[str, Scalar]) -> list[Measurement]:
        protocol: dict[str, Scalar] = {**about, "observation_noise": self.noise, "draws": self.draws, "clip_x_0": True}
        mean, rows = samples.mean(1), []
        for of, estimate in (("sample", samples[:, 0]), ("mean", mean)):
            psnr = -10 * np.log10(mean_square(estimate - x).numpy() / 4)
            said = {**protocol, "of": of}
            rows.append(Measurement("psnr", float(psnr.mean()), standard_error(psnr), len(x), "dB", said))
        error, spread = mean_square(mean - x).numpy(), mean_square(samples.std(1)).numpy() * (1 + 1 / self.draws)
        ratio = float(np.sqrt(spread.mean() / error.mean()))
        relative = standard_error(spread) / spread.mean() + standard_error(error) / error.mean()
        return [*rows, Measurement("spread_ratio", ratio, ratio * relative / 2, len(x), "1", protocol)]


def grey(x: Tensor) -> Tensor:
    return (x.double().clamp(-1, 1) + 1) * 127.5
