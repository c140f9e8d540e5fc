"""Code examples without loss in as many bits as the bound says (bits back): held-out ones, or an array of your own.

The file names the experiment, its weights and the versions that decode it; `decompress.py` needs nothing else.

  python experiments/compress.py experiment=ho_2020/mnist code.file=digits.dpm
  python experiments/compress.py experiment=ho_2020/mnist code.file=digits.dpm code.input=digits.npy code.steps=100
"""

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from dpm.runs import app


@hydra.main(version_base="1.3", config_path="../conf", config_name="compress")
@app.job
def main(config: DictConfig) -> None:
    from dpm.runs.coded import compress  # here, because --help need not wait for torch
    from dpm.runs.folder import Run

    with open_dict(config):
        options = OmegaConf.to_container(config.pop("code"), throw_on_missing=True)
    assert isinstance(options, dict)
    overrides = [o for o in app.overrides() if not o.startswith("code.")]
    print(compress(Run(config, overrides), options, overrides))


if __name__ == "__main__":
    app.run(main, __doc__)
