"""Train an experiment; the same command resumes a run that was stopped, and -m runs a sweep and skips what is finished.

python experiments/train.py experiment=sohl_dickstein_2015/swiss_roll
python experiments/train.py experiment=sohl_dickstein_2015/swiss_roll tier=smoke optimizer.lr=1e-2 seed=1
python experiments/train.py -m experiment=sohl_dickstein_2015/swiss_roll units=8,16 seed=0,1,2
python experiments/train.py experiment=ho_2020/cifar10_bound threads=8 tracker=none
torchrun --standalone --nproc-per-node 8 experiments/train.py experiment=ho_2020/cifar10_simple tier=paper device=cuda
"""

import hydra
from omegaconf import DictConfig

from dpm.runs import app


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@app.job
def main(config: DictConfig) -> float | None:
    from dpm.runs.folder import Run  # here, because --help need not wait for torch
    from dpm.runs.sweeps import to_minimise
    from dpm.runs.train import train

    done = train(Run(config, app.overrides()))
    if done is None:  # of several processes, not the one that leads
        return None
    if app.alone():
        app.next_is("evaluate", app.overrides())
    return to_minimise(done)  # for a sweeper that searches


if __name__ == "__main__":
    app.run(main, __doc__, "what was saved stays, and the same command goes on from it")
