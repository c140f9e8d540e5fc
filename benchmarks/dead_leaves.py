"""The rival of 2015's Table 2 and Figure 4 (b) on the same dead leaves as the diffusion model: an MCGSM, fitted and evaluated.

    python benchmarks/dead_leaves.py [--experiment sohl_dickstein_2015/dead_leaves] [--seed 0] [--components 32] ...

Fits one mixture to pixels whose neighbours all lie in the patch and another to those at its border, prints what they reach
on validation patches as they go, and writes a record below results/<experiment>_mcgsm: the log likelihood of whole patches,
which is what a bound on theirs compares with, and that of the pixels with all their neighbours, which is what the paper of
the model reports. K of <experiment>, and of it with other networks, where they have records, minus the first is the gain.
Beside it lie a sample and a training image for the figure.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from dpm import seeds
from dpm.baselines.mcgsm import MCGSM, MCGSMImages, fit
from dpm.evaluators.bound import NATS_PER_BIT
from dpm.evaluators.samples import levels
from dpm.facts import Scalar, of_network
from dpm.runs import app, configs
from dpm.runs.folder import Run
from dpm.study.records import Measurement, Record, provenance, save_arrays, standard_error
from dpm.study.results import selected

CLAIM = "sohl_dickstein_2015/table2/dead_leaves/mcgsm"
DIFFERENCE = "sohl_dickstein_2015/difference/dead_leaves"
PAIRS = 300  # pixels of each training patch and each part that the mixtures are fitted to


def bits(images: MCGSMImages, x: Tensor) -> Tensor:
    """log2 p of every pixel given those before it, (n, H, W), float64."""
    batches = x.float().split(20)  # type: ignore[no-untyped-call]
    return torch.cat([images.log_density(batch) for batch in batches]).double() / NATS_PER_BIT


def fit_and_tell(images: MCGSMImages, model: MCGSM, x: Tensor, kept: Tensor, settings: argparse.Namespace) -> None:
    pairs, (h, pixel) = images.pairs(model, x, PAIRS, settings.seed), images.pairs(model, kept, PAIRS, settings.seed)
    start = time.monotonic()
    for step, _ in enumerate(fit(model, *pairs, settings.steps, settings.batch_size, settings.rate, settings.seed), 1):
        if step % math.ceil(settings.steps / 10) == 0:
            with torch.no_grad():
                batches = zip(h.split(10000), pixel.split(10000), strict=True)
                reached = torch.cat([model.log_density(*batch) for batch in batches]).mean() / NATS_PER_BIT
            print(f"step {step:6d}: {reached:.4f} bits/pixel (validation), {time.monotonic() - start:.0f} s", flush=True)


def measurements(
    images: MCGSMImages, x: Tensor, patches_per_image: int, ceiling: float, about: dict[str, Scalar]
) -> list[Measurement]:
    """Two means over the patches x. Patches of one image are dependent, so the errors are those of means of images."""
    log_p = bits(images, x)
    complete = images.edges(*x.shape[2:]).all(1).reshape(x.shape[2:])
    rows = []
    for pixels, values in (("all", log_p.flatten(1)), ("with_all_neighbours", log_p[:, complete])):
        per_image = np.array([part.mean() for part in values.split(patches_per_image)])
        protocol = {**about, "pixels": pixels, "n_images": len(per_image), "error_by": "means of images"}
        claim = CLAIM if pixels == "all" and about["split"] == "test" else None
        value, stderr = float(values.mean()), standard_error(per_image)
        rows.append(Measurement("log_likelihood", value, stderr, len(x), "bits/pixel", protocol, claim, ceiling=ceiling))
        print(f"{value:.4f} +- {stderr:.4f} bits/pixel, {protocol}")
    return rows


def gain(diffusion: Path, whole: Measurement, claim: str | None = None) -> list[Measurement]:
    """K of a diffusion model's record minus `whole`, the log likelihood of the same patches; nothing without that record.

    Its recipe is that of the diffusion model.

    The errors are added as if independent. That of the choice of images, which the two models have in common, mostly cancels.
    """
    if not diffusion.is_file():
        return []
    (K,) = selected([Record.load(diffusion)], "log_likelihood_bound", {"edges": "entropy"})
    stderr = math.hypot(K.stderr or 0.0, whole.stderr or 0.0)
    about = {key: K.protocol[key] for key in ("data", "split", "edges", "T")} | {"pixels": "all"}
    return [Measurement("gain_over_mcgsm", K.value - whole.value, stderr, K.n, "bits/pixel", about, claim, recipe=K.recipe)]


def measure(run: Run, settings: argparse.Namespace) -> tuple[Record, dict[str, np.ndarray]]:
    data = configs.build(run.config, "data")
    x, kept = data.training(), data.validation(len(data.tiles(data.kept))).float()
    test = data.held_out(run.config["examples"])
    seeds.seed_everything(run.seed, seeds.INITIALISATION)
    images, start = MCGSMImages(settings.reach, settings.components, settings.scales, settings.features), time.monotonic()
    for name, model in (("inside", images.inside), ("border", images.border)):
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
        fit_and_tell(images, model, x, kept, settings)
    seconds = round(time.monotonic() - start, 1)
    shape = {name: getattr(settings, name) for name in ("reach", "components", "scales", "features")}
    about = {**data.facts, "patch_side": x.shape[-1]}
    per_image = len(data.tiles(data.test[:1]))
    noise = run.config["data"]["source"]["noise"] / data.std
    ceiling = -math.log2(noise) - math.log2(2 * math.pi * math.e) / 2  # minus the entropy of the images' own noise
    rows = measurements(images, test, per_image, ceiling, about)
    results, seed = Path(run.config["results"]), f"seed{run.seed}.json"
    rows += gain(results / run.name / seed, rows[0], DIFFERENCE)
    for network in ("unet", "kernels"):
        rows += gain(results / f"{run.name}_{network}" / seed, rows[0])
    rows += measurements(images, kept, per_image, ceiling, {**about, "split": "validation"})
    parameters = sum(p.numel() for p in images.inside.parameters())
    rows.append(
        Measurement("parameters", parameters, None, len(test), "parameters", {**about, "pixels": "with_all_neighbours"})
    )
    budget = {
        "steps": 2 * settings.steps,  # of both parts
        "examples": 2 * settings.steps * settings.batch_size,  # pixels
        "seconds": seconds,
        "device": "cpu",
    }
    origin = provenance(configs.essential(run.config), test.numpy().tobytes(), safetensors.torch.save(images.state_dict()))
    seeds.seed_everything(run.seed, seeds.SAMPLING)
    samples = images.sample(1, *data.test.shape[2:])
    arrays = {"mcgsm": levels(data.grey(samples))[0], "training": levels(torch.tensor(data.train[0]))}
    recipe = {**of_network(images), **shape, "steps": budget["steps"], "batch_size": settings.batch_size}
    return Record(f"{run.name}_mcgsm", run.seed, run.config["tier"], recipe, budget, origin, tuple(rows)), arrays


def main() -> None:
    parser = app.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="sohl_dickstein_2015/dead_leaves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reach", type=int, default=4, help="how far the neighbourhood goes, in pixels")
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--scales", type=int, default=4)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4000, help="of each of the two mixtures")
    parser.add_argument("--batch-size", type=int, default=2048, help="pixels")
    parser.add_argument("--rate", type=float, default=0.02)
    settings = parser.parse_args()
    overrides = [f"experiment={settings.experiment}", f"seed={settings.seed}"]
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        run = Run(compose("evaluate", overrides), [])
    record, arrays = measure(run, settings)
    path = Path(run.config["results"], record.experiment, f"seed{run.seed}.json")
    save_arrays(path.with_suffix(".npz"), arrays)
    record.save(path)
    print(path)


if __name__ == "__main__":
    app.run(main)
