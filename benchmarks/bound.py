"""What a bound with an error bar costs: all terms, one uniform random time per image, and sampled terms, on one network.

    python benchmarks/bound.py [--experiment ho_2020/cifar10_bound] [--seed 0] [--weights FILE] [--all-terms-on 25]

Prints for each estimator of the bound on all held-out images the network evaluations that a 95 % interval of +-0.01 bits/dim
takes, and how many more than ours the others take for the interval that ours reached; writes a record below
results/<experiment>_estimators. On the first images every term is evaluated as well, so that sampled terms can be compared
with what they estimate.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from dpm import seeds
from dpm.bound import draw, term
from dpm.evaluators.bound import nats_per_unit
from dpm.evaluators.sampled import Z, sampled, visit
from dpm.facts import Scalar
from dpm.reverse import Reverse, facts_of
from dpm.runs import app, configs
from dpm.runs.evaluate import prepared, recorded
from dpm.runs.folder import Run, variant
from dpm.study.records import Measurement, Record

HALF_WIDTH, UNIT = 0.01, "bits/dim"
UNIFORM = 4000  # evaluations that measure what a uniform random time costs, a few for each t
STREAM = 10**6  # numbers of our own among the evaluation's random streams


@torch.no_grad()
def every_term(reverse: Reverse, x_0: Tensor, seed: int, repetition: int) -> Tensor:
    """L_t at one draw of x_t for each image and t = 1..T, (n, T), nats."""

    def columns() -> Iterator[Tensor]:
        for t in range(1, len(reverse.process.schedule) + 1):
            seeds.seed_everything(seed, seeds.EVALUATION, STREAM, t, repetition)
            times = torch.full((len(x_0),), t, device=x_0.device)
            yield term(reverse, x_0, draw(reverse.process, x_0, times), times).double()

    return torch.stack(list(columns()), 1)


def needed(deviation: float, half_width: float, per_visit: int = 1) -> float:
    """Evaluations for a 95 % interval of +-half_width, where visits contribute independently with this deviation (UNIT)."""
    return per_visit * (Z * deviation / half_width) ** 2


def measure(run: Run, all_terms_on: int) -> Record:
    """Estimators by name: `uniform` draws one random t >= 1 for an image; `uniform_apart` one t >= 2, and spends a second
    evaluation on the decoder's term of that image; `sampled` is ours, with and without its control variate."""
    (reverse, loaded, weights), data = prepared(run), configs.build(run.config, "data")
    evaluator = configs.build(run.config, "evaluators")["bound"]
    x_0, seed = data.held_out(run.config["examples"]).to(run.config["device"]), run.seed
    n, T, scale = len(x_0), len(reverse.process.schedule), nats_per_unit(UNIT, x_0)
    control, batch = evaluator.control(data=data, device=x_0.device), evaluator.batch_size
    model, masses = evaluator.wrap(reverse), control.masses(reverse.process, 1).cpu()
    rows: list[Measurement] = []

    def row(quantity: str, value: float, stderr: float | None, images: int, unit: str, **about: Scalar) -> None:
        rows.append(Measurement(quantity, value, stderr, images, unit, {**facts_of(model), **about}, error="estimate"))
        error = "" if stderr is None else f" +- {stderr:.4f}"
        print(f"{quantity:17s} {value:16,.4f}{error} {unit:12s} {images:,} images, {about}", flush=True)

    row("evaluations", n * T, None, n, "evaluations", estimator="all_terms")
    uniform = visit(model, x_0, torch.ones(T), 1, None, min(UNIFORM, n), batch, seed, seeds.EVALUATION, STREAM)
    later, decoded = uniform.t > 1, uniform.term[uniform.t == 1] / T
    transitions = uniform.term[later] * (T - 1) / T
    rivals = {
        "uniform": (float(uniform.term.std()) / scale, 1),
        "uniform_apart": (math.hypot(float(transitions.std()), float(decoded.std())) / scale, 2),
    }
    for name, (deviation, per_visit) in rivals.items():
        row(
            "evaluations",
            needed(deviation, HALF_WIDTH, per_visit),
            None,
            n,
            "evaluations",
            estimator=name,
            half_width=HALF_WIDTH,
        )
    for name, chosen in (("sampled_without_control", None), ("sampled", control)):
        result = sampled(model, x_0, 1, masses, chosen, evaluator.pilot, HALF_WIDTH * scale, evaluator.passes, batch, seed)
        value, stderr = (number / scale for number in result.part(1, T))
        row("nll_bound", value, stderr, n, UNIT, estimator=name)
        row("evaluations", result.evaluations, None, n, "evaluations", estimator=name, half_width=round(Z * stderr, 4))
    for name, (deviation, per_visit) in rivals.items():
        ratio = needed(deviation, Z * stderr, per_visit) / result.evaluations
        row("evaluation_ratio", ratio, None, n, "1", estimator=name, half_width=round(Z * stderr, 4))
    few = x_0[:all_terms_on]
    start = time.monotonic()
    one, two = (every_term(model, few, seed, repetition).sum(1) / scale for repetition in range(2))
    print(f"all terms of {len(few)} images, twice, took {time.monotonic() - start:.0f} s")
    noise = float((one - two).std()) / (2 * math.sqrt(len(few)))  # of the mean of both, the images given
    row("nll_bound", float(one.mean() + two.mean()) / 2, noise, len(few), UNIT, estimator="all_terms_first_images")
    again = sampled(model, few, 1, masses, control, len(few), 1e-9, 100, batch, seed)
    row("nll_bound", *(k / scale for k in again.part(1, T)), len(few), UNIT, estimator="sampled_first_images")
    return recorded(run, reverse, data, loaded, rows, weights, f"{run.name}_estimators")


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="ho_2020/cifar10_bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", help="a .safetensors file in place of the run's own or the shipped weights")
    parser.add_argument("--all-terms-on", type=int, default=25, help="images on which every term is evaluated")
    parser.add_argument("--examples", type=int, help="held-out images; default: the experiment's")
    arguments = parser.parse_args()
    overrides = [f"experiment={arguments.experiment}", f"seed={arguments.seed}"]
    overrides += [f"weights={arguments.weights}"] if arguments.weights else []
    overrides += [f"examples={arguments.examples}"] if arguments.examples else []
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        run = Run(compose("evaluate", overrides), [])
    record = measure(run, arguments.all_terms_on)
    path = Path(run.config["results"], f"{run.name}_estimators", variant(overrides, run.config), f"seed{run.seed}.json")
    record.save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
