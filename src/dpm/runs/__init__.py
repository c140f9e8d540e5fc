"""How things are run: configurations, folders, training, evaluation, weights, checkpoints, tracking, sweeps, processes."""

import os

from omegaconf import OmegaConf

from dpm.stored import ROOT

OmegaConf.register_new_resolver("project", lambda folder: os.path.relpath(ROOT / folder), replace=True)
OmegaConf.register_new_resolver("twice", lambda number: 2 * number, replace=True)
