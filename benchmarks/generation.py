"""What the reverse process of 2020 makes on its way: Figures 6, 7, 9 and 10, samples, and their nearest training images.

    python benchmarks/generation.py [--experiment ho_2020/cifar10_bound] [--seed 0] [--weights FILE] [--chains 250] ...

Writes a record below results/<experiment>_generation and the arrays of the figures beside it. The quality of the predicted
images along the reverse process is a distance between patches, beside as many test images; FID and inception score are added
where torch-fidelity and its weights of the Inception network are found (--inception FILE), and take 50,000 chains.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from dpm.errors import UserError
from dpm.evaluators import Arrays
from dpm.evaluators.features import REAL_CIFAR10, InceptionScores, PatchDistance, Score, inception
from dpm.evaluators.generation import Interpolation, Progressive, SharedLatents
from dpm.evaluators.neighbours import neighbours
from dpm.evaluators.patches import of_real_images
from dpm.facts import Scalar
from dpm.reverse import facts_of
from dpm.runs import app, configs
from dpm.runs.evaluate import prepared, recorded
from dpm.runs.folder import Run, variant
from dpm.study.records import Measurement, save_arrays

SHARES = (1.0, 0.75, 0.5, 0.25)  # of T, at which chains are stopped (Figure 7)
EIGHTHS = [k / 8 for k in range(8, -1, -1)]  # of T, through which images are mixed (Figure 9)
LAMBDAS = [k / 10 for k in range(11)]
COMPARED = 1000  # samples whose neighbours are sought
SETS = 5  # at least, of real images


def inception_scores(run: Run, data: Any, settings: argparse.Namespace) -> list[Score]:
    """FID and IS, calibrated; or one line that says why not."""
    try:
        network = inception(Path(settings.inception) if settings.inception else None, run.config["device"])
        whole, n, batch = np.concatenate([data.train, data.kept]), settings.chains, settings.batch_size
        scores = InceptionScores(network, "inception_2015", whole, data.test, n, batch, REAL_CIFAR10)
        print(f"{scores.calibration}, the training images' inception score is {scores.of_training}", flush=True)
        return [scores]
    except UserError as error:
        print(f"no FID and no inception score: {error}", flush=True)
        return []


def floor(distance: PatchDistance, test: np.ndarray, n: int) -> tuple[Measurement, np.ndarray]:
    """The distance of n test images, or fewer, from `SETS` disjoint sets at least: with its error, and with their deviation."""
    n = min(n, len(test) // SETS)
    row = of_real_images(distance, test, n)
    assert row.stderr is not None
    return row, np.array([row.value, row.stderr * math.sqrt(float(row.protocol["sets"]))])


def answering(m: Measurement, claims: dict[str, str], last: dict[str, Scalar]) -> Measurement:
    """Of the samples themselves, the last column: their inception score, FID, and FID against test images answer claims."""
    names = {"inception_score": "is", "fid": "fid" if m.protocol.get("statistics") == "train" else "fid_test"}
    return replace(m, claim=claims.get(names.get(m.quantity, ""))) if last.items() <= m.protocol.items() else m


def named_claim(text: str) -> tuple[str, str]:
    name, _, claim = text.partition("=")
    if name not in ("is", "fid", "fid_test") or not claim:
        raise argparse.ArgumentTypeError(f"{text!r}: is=CLAIM, fid=CLAIM or fid_test=CLAIM")
    return name, claim


def measure(
    run: Run, reverse: Any, data: Any, wrap: Callable[[Any], Any], settings: argparse.Namespace
) -> tuple[list[Measurement], Arrays]:
    T, seed = len(reverse.process.schedule), run.seed
    x_0, start, steps = data.held_out(2 * settings.pairs).to(run.config["device"]), time.monotonic(), settings.steps

    def tell(what: str) -> None:
        print(f"{what}: {time.monotonic() - start:.0f} s", flush=True)

    distance, of_network = PatchDistance(data.train, settings.side), inception_scores(run, data, settings)
    least, spread = floor(distance, data.test[: settings.test], settings.chains)
    of_test = [m for score in of_network for m in score(torch.tensor(data.test))]
    rows = [least, *(m.with_protocol({"source": "test_images"}) for m in of_test)]
    tell("real images")
    progressive = Progressive(
        settings.chains, steps, settings.columns, settings.shown, settings.batch_size, [distance, *of_network], wrap
    )
    shared = SharedLatents([round(share * T) for share in SHARES], settings.groups, settings.completions, steps, wrap)
    mixed = Interpolation([round(share * T) for share in EIGHTHS], LAMBDAS, settings.pairs, steps, wrap)
    parts = []
    for name, evaluator in {"progressive": progressive, "shared latents": shared, "interpolation": mixed}.items():
        parts.append(evaluator(reverse, data, x_0, seed))
        tell(name)
    samples = torch.from_numpy(parts[0].arrays["samples"][:COMPARED])
    parts.append(neighbours(samples, data.test[: settings.test], data.train, settings.neighbours, settings.shown))
    tell("neighbours")
    arrays = {key: array for part in parts for key, array in part.arrays.items()}
    rows += [m for part in parts for m in part.measurements]
    return rows, {**arrays, "samples": arrays["samples"][: settings.samples], "patch_distance_floor": spread}


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="ho_2020/cifar10_bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", help="a .safetensors file in place of the run's own or the shipped weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--chains", type=int, default=250, help="chains that the quality of x_0-hat is measured on")
    parser.add_argument("--steps", type=int, default=125, help="of a whole chain")
    parser.add_argument("--columns", type=int, default=16, help="times at which x_0 is predicted")
    parser.add_argument("--shown", type=int, default=6, help="chains, and samples with neighbours, that are shown")
    parser.add_argument("--samples", type=int, default=24, help="samples that are kept")
    parser.add_argument("--groups", type=int, default=2, help="chains that are stopped and completed")
    parser.add_argument("--completions", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=1, help="pairs of test images that are mixed")
    parser.add_argument("--neighbours", type=int, default=10)
    parser.add_argument("--side", type=int, default=8, help="of the patches, in pixels")
    parser.add_argument("--test", type=int, default=10000, help="test images that serve for comparison")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--inception", help="weights of the Inception network of 2015, as torch-fidelity has them")
    parser.add_argument("--answers", nargs="+", type=named_claim, default=[], help="is=CLAIM, fid=CLAIM, fid_test=CLAIM")
    parser.add_argument("overrides", nargs="*", help="of the experiment: tier=paper, cell=...")
    settings = parser.parse_args()
    overrides = [*settings.overrides, f"experiment={settings.experiment}", f"seed={settings.seed}", f"device={settings.device}"]
    overrides += [f"weights={settings.weights}"] if settings.weights else []
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        run = Run(compose("evaluate", overrides), [])
    (reverse, loaded, weights), data = prepared(run), configs.build(run.config, "data")
    wrap = configs.build(run.config, "evaluators")["bound"].wrap
    rows, arrays = measure(run, reverse, data, wrap, settings)
    last = {"source": "samples", "reverse_step": len(reverse.process.schedule)}
    rows = [answering(m.with_protocol(facts_of(wrap(reverse))), dict(settings.answers), last) for m in rows]
    for m in rows:
        error = "" if m.stderr is None else f" +- {m.stderr:.3f}"
        print(f"{m.quantity:18s} {m.value:9.3f}{error} {m.unit}, {m.n:,} images, {dict(m.protocol)}")
    path = Path(run.config["results"], f"{run.name}_generation", variant(overrides, run.config), f"seed{run.seed}.json")
    save_arrays(path.with_suffix(".npz"), arrays)
    recorded(run, reverse, data, loaded, rows, weights, f"{run.name}_generation").save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
