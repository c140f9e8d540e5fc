"""Evaluate an experiment: python experiments/evaluate.py experiment=sohl_dickstein_2015/swiss_roll seed=0 [key=value ...]

The weights are those that the same overrides trained, or else those shipped in results/, or `weights=PATH`: a .safetensors
file, or a folder in the layout of diffusers.
"""

import hydra
from omegaconf import DictConfig

from dpm.runs import app
from dpm.runs.evaluate import evaluate
from dpm.runs.folder import Run


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@app.job
def main(config: DictConfig) -> None:
    evaluate(Run(config, app.overrides()))


if __name__ == "__main__":
    app.run(main)
