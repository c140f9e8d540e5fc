"""Results that look like those of an evaluation, for the tests of report and figures: made up, never shown to anyone."""

from pathlib import Path

import numpy as np

from dpm.study.records import Measurement, Record, save_arrays, sha256

T, N = 40, 400
TABLE = "sohl_dickstein_2015/table1/swiss_roll"
ROLL, MLP = "sohl_dickstein_2015/swiss_roll_quasi_newton", "sohl_dickstein_2015/swiss_roll_mlp"


def roll(rng: np.random.Generator, n: int) -> np.ndarray:
    phi = rng.uniform(1.5 * np.pi, 4.5 * np.pi, n)
    return phi[:, None] * np.stack([np.cos(phi), np.sin(phi)], 1) / 7.0


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    betas = np.concatenate([[1e-6], np.geomspace(2e-6, 0.3, T - 1) * rng.uniform(0.9, 1.1, T - 1)])
    keep = np.sqrt(np.concatenate([[1.0], np.cumprod(1 - betas)]))[:, None, None]
    times, keep = np.arange(0, T + 1, 4), keep[::4]  # not every step needs to be stored
    frames = keep * roll(rng, N) + np.sqrt(1 - keep**2) * rng.standard_normal((len(times), N, 2))
    side = np.linspace(-2.2, 2.2, 15)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    term = 0.05 + 0.1 * np.exp(-(np.linspace(-2, 2, T - 1) ** 2))
    return {
        "times": times,
        "forward": frames.astype(np.float16),
        "reverse": (frames + 0.05 * rng.standard_normal(frames.shape)).astype(np.float16),
        "grid": grid,
        "drift_times": np.array([2, T // 2, T]),
        "drift": -0.1 * np.stack([grid, grid[:, ::-1], grid * [1, -1]]),
        "term_times": np.arange(2, T + 1),
        "term_mean": term + 0.02,
        "term_stderr": np.full(T - 1, 0.003),
        "oracle_term_mean": term,
        "oracle_term_stderr": np.full(T - 1, 0.002),
        "betas": betas,
        "entropy_times": np.arange(2, T + 1),
        "entropy_lower": np.linspace(-18, 4, T - 1),
        "entropy_truth": np.linspace(-18, 4, T - 1) + term,
        "entropy_truth_stderr": np.full(T - 1, 0.001),
        "entropy_upper": np.linspace(-18, 4, T - 1) + 2 * term,
        "curve_step": np.arange(0, 1000, 100),
        "curve_K": 2 - np.exp(-np.arange(10.0)),
    }


def record(experiment: str, seed: int, K: float, network: str, units: int, beta_1: float) -> Record:
    ceiling = float(-0.5 * np.log2(2 * np.pi * np.e * 2 * beta_1) - 5.1)
    shared = {"data": "SwissRoll", "split": "held-out", "T": T, "beta_1": beta_1, "seed": seed}
    reverse = {"prediction": "ScaledForwardPerturbation", "variance": "SigmoidPerturbation", "objective": "OneTerm(Uniform)"}
    recipe = {"network": network, "hidden_units": units, **reverse, "steps": 20000, "batch_size": 1024}
    truth = ((0, 9.8), (1, ceiling))
    measurements = [Measurement("log_likelihood", value, 0.01, 10000, "bits", {**shared, "t": t}) for t, value in truth]
    known = (("log_likelihood", "exact"), ("ceiling", "exact"), ("log_likelihood", "quadrature"))
    measurements += [Measurement(q, 4.2, 0.0, 10000, "bits", {**shared, "terms": terms}) for q, terms in known]
    answers = (f"{TABLE}/K", f"{TABLE}/K_minus_null") if experiment == ROLL else (None, None)
    for edges, claims in (("entropy", answers), ("stationary", (None, None))):
        protocol = {**shared, "edges": edges, "terms": "all", "draws": 4}
        limits = {"ceiling": ceiling, "oracle": ceiling - 0.4}
        gains = {"ceiling": ceiling + 4.09, "oracle": ceiling + 3.69}
        measurements += [
            Measurement("log_likelihood_bound", K, 0.012, 10000, "bits", protocol, claims[0], {}, **limits),
            Measurement("gain_over_null", K + 4.09, 0.011, 10000, "bits", protocol, claims[1], {}, **gains),
            Measurement("oracle_log_likelihood_bound", ceiling - 0.4, 0.01, 10000, "bits", protocol),
            Measurement("gain_over_oracle", K - ceiling + 0.4, 0.004, 10000, "bits", protocol),
        ]
    for side, gap in (("upper", 7.9), ("lower", 12.0)):
        about = {**shared, "side": side}
        measurements += [
            Measurement("entropy_gap", gap, 0.015, 10000, "bits", about),
            Measurement("bounded_share", 1.0, None, 10000, "1", about),
        ]
    budget = {"steps": 20000, "examples": 20480000, "seconds": 361.2, "device": "cpu"}
    hashes = {f"{key}_sha256": sha256(f"{key}{seed}".encode()) for key in ("config", "data", "weights")}
    versions = {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "machine": "x86_64"}
    command = f"python experiments/evaluate.py -m experiment={experiment} seed=0,1,2,3,4"
    origin = {"commit": "0123456789abcdef", "dirty": seed == 0, "command": command, **hashes, **versions}
    return Record(experiment, seed, "laptop", recipe, budget, origin, tuple(measurements))


def write(root: Path, seeds: int = 5) -> None:
    """Two experiments with several seeds, sweeps of both networks over beta_1 and of the first one over its units."""
    rng = np.random.default_rng(0)
    models = ((ROLL, "NormalizedRBF", 16, -0.9), (MLP, "FourierMLP", 128, 1.9))
    for experiment, network, units, K in models:
        for seed in range(seeds):
            one = record(experiment, seed, K + 0.03 * rng.standard_normal(), network, units, 1e-6)
            one.save(root / experiment / f"seed{seed}.json")
            save_arrays(root / experiment / f"seed{seed}.npz", arrays(seed))
        for beta_1 in ("1e-6", "1e-5", "1e-4", "1e-3"):
            for seed in range(min(seeds, 3)):
                loss = 0.3 * np.log10(float(beta_1) / 1e-6)
                one = record(
                    f"{experiment}_beta_1", seed, K - loss + 0.03 * rng.standard_normal(), network, units, float(beta_1)
                )
                one.save(root / f"{experiment}_beta_1" / f"beta_1={beta_1}" / f"seed{seed}.json")
    for units in (4, 16, 64, 256):
        one = record(f"{ROLL}_units", 0, -0.9 + np.log2(units / 16) / 3, "NormalizedRBF", units, 1e-6)
        one.save(root / f"{ROLL}_units" / f"units={units}" / "seed0.json")
