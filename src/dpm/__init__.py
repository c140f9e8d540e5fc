"""Diffusion probabilistic models: Sohl-Dickstein et al. 2015 and Ho et al. 2020, with bounds that can be checked."""
