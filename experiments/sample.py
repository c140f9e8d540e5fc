"""Draw from a trained process: samples, trajectories, interpolations or inpainting, as a picture, a film, an array or MIDI.

The weights are those that `evaluate.py` takes with the same overrides: your own run's, or the shipped ones, or weights=PATH.
`draw` is a file of conf/draw, `sampler` one of conf/sampler, and the ending of `file` says in which form it is written.

  python experiments/sample.py experiment=ho_2020/mnist
  python experiments/sample.py experiment=sohl_dickstein_2015/swiss_roll draw=trajectory draw.n=500 file=roll.gif
  python experiments/sample.py experiment=ho_2020/cifar10_bound draw=interpolation sampler=ddim sampler.steps=100 file=mixed.png
  python experiments/sample.py experiment=ho_2020/mnist draw=inpainting sampler.sweeps=5
  python experiments/sample.py experiment=boulanger_2012/chorales draw.n=4 sampler.steps=1000 file=chorales.mid
"""

import hydra
from omegaconf import DictConfig

from dpm.runs import app


@hydra.main(version_base="1.3", config_path="../conf", config_name="sample")
@app.job
def main(config: DictConfig) -> None:
    from dpm.runs.sampled import Trained  # here, because --help need not wait for torch

    print(Trained(config, app.overrides()).save())


if __name__ == "__main__":
    app.run(main, __doc__)
