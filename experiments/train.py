"""Train an experiment: python experiments/train.py experiment=sohl_dickstein_2015/swiss_roll seed=0 [key=value ...]

The same command resumes a run that was stopped; with -m it runs a sweep and skips what is finished.
"""

import hydra
from omegaconf import DictConfig

from dpm.runs import app
from dpm.runs.folder import Run
from dpm.runs.train import train


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@app.job
def main(config: DictConfig) -> None:
    train(Run(config, app.overrides()))


if __name__ == "__main__":
    app.run(main)
