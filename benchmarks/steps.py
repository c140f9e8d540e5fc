"""The bound on fewer steps than a network was trained for: even strides, quadratic ones, and the steps that maximise it.

    python benchmarks/steps.py [--experiment ho_2020/cifar10_bound] [--seed 0] [--weights FILE] [--examples 64] ...

Chooses by dynamic programming, on validation images, among about geometrically spaced times; evaluates the bound on the
grids chosen, on the others and on all T steps with held-out images, every grid at the same x_t. Prints and writes, below
results/<experiment>_steps, the bound and its excess over that on all steps. The excess is a difference on the same images and
noise: its error is much smaller than that of the bound, most of which is the choice of the images.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from dpm import seeds
from dpm.bound import decoder_edges
from dpm.errors import UserError
from dpm.evaluators.bound import nats_per_unit
from dpm.reverse import facts_of
from dpm.runs import app, configs
from dpm.runs.evaluate import prepared, recorded
from dpm.runs.folder import Run, variant
from dpm.samplers import ancestral
from dpm.samplers.steps import all_pairs, best_grids, costs, pairs_of, quadratic, remembering
from dpm.study.records import Measurement, Record, save_arrays, standard_error

UNIT, STEPS, BATCH = "bits/dim", (5, 10, 20, 50, 100, 200), 32
CHOICE, MEASURED = 10**6 + 1, 10**6 + 2  # numbers of our own among the evaluation's random streams


def candidates(T: int, most: int) -> list[int]:
    """0 and at most `most` of the times 1..T, every one of the first and then in geometric progression."""
    return [0, *np.unique(np.geomspace(1, T, most).round().astype(int)).tolist()]


def grids_of(T: int, best: dict[int, list[int]]) -> dict[tuple[str, int], list[int]]:
    """By strides and number of steps; K from T on is `all` alone."""
    few = [K for K in STEPS if K < T]
    made = {("even", K): ancestral.grid(T, K) for K in few} | {("quadratic", K): quadratic(T, K) for K in few}
    return made | {("chosen", K): best[K] for K in few if K in best} | {("all", T): list(range(T, -1, -1))}


def measure(run: Run, settings: argparse.Namespace) -> tuple[Record, dict[str, np.ndarray]]:
    (reverse, loaded, weights), data = prepared(run), configs.build(run.config, "data")
    model = remembering(configs.build(run.config, "evaluators")["bound"].wrap(reverse))
    kept, x_0 = (x.to(run.config["device"]) for x in (data.validation(settings.validation), data.held_out(settings.examples)))
    T, scale = len(model.process.schedule), nats_per_unit(UNIT, x_0)
    times, start = candidates(T, settings.candidates), time.monotonic()
    key = run.seed, seeds.EVALUATION
    seen = costs(model, kept, all_pairs(times), BATCH, *key, CHOICE)
    print(f"{len(kept)} validation images at {len(times) - 1} times: {time.monotonic() - start:.0f} s", flush=True)
    grids, start = grids_of(T, best_grids(times, seen.table(times))), time.monotonic()
    found = costs(model, x_0, pairs_of(grids.values()), BATCH, *key, MEASURED)
    prior = decoder_edges.prior(model, x_0).double().cpu()
    totals = {name: ((prior + found.total(grid)) / scale).numpy() for name, grid in grids.items()}
    print(f"{len(x_0)} held-out images at all times: {time.monotonic() - start:.0f} s", flush=True)
    shared = {**facts_of(model), "terms": "all", "edges": "decoder"}
    rows: list[Measurement] = []
    for (strides, K), total in totals.items():
        about = {**shared, "strides": strides, "K": K}
        if strides == "chosen":
            about |= {"chosen_on": "validation", "n_chosen_on": len(kept), "candidates": len(times) - 1}
        for quantity, values in (("nll_bound", total), ("nll_excess", total - totals["all", T])):
            rows.append(Measurement(quantity, float(values.mean()), standard_error(values), len(x_0), UNIT, about))
        print(f"{strides:9s} {K:4d}  " + "   ".join(f"{m.quantity} {m.value:.4f} +- {m.stderr:.4f}" for m in rows[-2:]))
    del rows[-1]  # of all steps over themselves
    return recorded(run, reverse, data, loaded, rows, weights, f"{run.name}_steps"), arrays_of(rows, grids)


def arrays_of(rows: Iterable[Measurement], grids: dict[tuple[str, int], list[int]]) -> dict[str, np.ndarray]:
    """K, mean and standard error of each curve, and the times of the grids that were chosen."""
    arrays = {f"chosen_times_{K}": np.array(grid) for (strides, K), grid in grids.items() if strides == "chosen"}
    for strides in dict.fromkeys(name for name, _ in grids):
        own = [m for m in rows if m.protocol["strides"] == strides]
        arrays[f"{strides}_K"] = np.array([m.protocol["K"] for m in own if m.quantity == "nll_bound"])
        for quantity in ("nll_bound", "nll_excess"):
            curve = np.array([(m.value, m.stderr) for m in own if m.quantity == quantity])
            arrays |= {
                f"{strides}_{quantity}_{name}": column for name, column in zip(("mean", "stderr"), curve.T, strict=False)
            }
    return arrays


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="ho_2020/cifar10_bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", help="a .safetensors file in place of the run's own or the shipped weights")
    parser.add_argument("--examples", type=int, default=64, help="held-out images that the bounds are measured on")
    parser.add_argument("--validation", type=int, default=20, help="validation images that the steps are chosen on")
    parser.add_argument("--candidates", type=int, default=400, help="times to choose among, before equal ones are dropped")
    settings = parser.parse_args()
    if min(settings.examples, settings.validation) < 2 or settings.candidates < 2:
        raise UserError("two images of each kind and two candidates at least")
    overrides = [f"experiment={settings.experiment}", f"seed={settings.seed}"]
    overrides += [f"weights={settings.weights}"] if settings.weights else []
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        run = Run(compose("evaluate", [*overrides, f"examples={settings.examples}"]), [])
    with torch.no_grad():
        record, arrays = measure(run, settings)
    path = Path(run.config["results"], f"{run.name}_steps", variant(overrides, run.config), f"seed{run.seed}.json")
    save_arrays(path.with_suffix(".npz"), arrays)
    record.save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
