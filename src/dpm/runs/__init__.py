"""How things are run: configurations, folders, training, evaluation, weights, checkpoints, tracking, sweeps, processes."""

import os

from omegaconf import OmegaConf

from dpm.stored import ROOT

OmegaConf.register_new_resolver("project", lambda folder: os.path.relpath(ROOT / folder), replace=True)
OmegaConf.register_new_resolver("twice", lambda number: 2 * number, replace=True)
OmegaConf.register_new_resolver("part", lambda steps, parts: max(1, round(steps / parts)), replace=True)
OmegaConf.register_new_resolver("decay", lambda window, parts: 1 - parts / window, replace=True)  # of an average over that part
