"""How things are run: configurations, folders, training, evaluation, weights, checkpoints, tracking, sweeps, processes."""
