"""Evaluate an experiment on held-out examples: a record, arrays and weights below results/yours.

The weights are those that the same overrides trained, or else those beside your record, or else the shipped ones, or
`weights=PATH`: a .safetensors file, the folder of a run or a checkpoint in it, or a folder in the layout of diffusers.

  python experiments/evaluate.py experiment=sohl_dickstein_2015/swiss_roll
  python experiments/evaluate.py experiment=sohl_dickstein_2015/swiss_roll tier=smoke optimizer.lr=1e-2 seed=1
  python experiments/evaluate.py -m experiment=sohl_dickstein_2015/swiss_roll units=8,16 seed=0,1,2
  python experiments/evaluate.py experiment=ho_2020/cifar10_bound device=cuda evaluators.bound.half_width=0.005
  python experiments/evaluate.py experiment=ho_2020/cifar10_simple tier=paper weights=ddpm-ema-cifar10-32 device=cuda
"""

import hydra
from omegaconf import DictConfig

from dpm.runs import app


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@app.job
def main(config: DictConfig) -> None:
    from dpm.runs.evaluate import evaluate  # here, because --help need not wait for torch
    from dpm.runs.folder import Run

    evaluate(Run(config, app.overrides()))


if __name__ == "__main__":
    app.run(main, __doc__)
