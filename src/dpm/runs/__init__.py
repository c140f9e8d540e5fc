"""How things are run: configurations, folders, training, evaluation, weights, checkpoints, tracking, sweeps, processes."""

import os

from omegaconf import OmegaConf

from dpm.stored import ROOT

OmegaConf.register_new_resolver("project", lambda folder: os.path.relpath(ROOT / folder), replace=True)
OmegaConf.register_new_resolver("twice", lambda number: 2 * number, replace=True)
OmegaConf.register_new_resolver("part", lambda steps, parts: max(1, round(steps / parts)), replace=True)
# Of a moving average whose window, 1 / (1 - decay) steps, is that part of the whole run's.
OmegaConf.register_new_resolver("decay", lambda whole, parts: max(0.0, 1 - parts * (1 - whole)), replace=True)
