"""How well fits weigh correlated noise: the weights of `astroflow.sims.weighting` against the whole covariance, on simulated stamps.

For each stamp of a forward model with correlated noise the inverse covariance of the parameters, H = J^T W J + 1 on the prior's scale, is
compared with that of the dense covariance: the smallest and largest of its directions, one for each if they agree. The efficiency is
that of the posterior that is known from the fit J^T W r alone, as a proposal for the one that is known from all pixels, were
models linear: what the weights lose for good. ``ASTROFLOW_DATA=... python benchmarks/weighting.py`` takes two seconds a stamp.
"""

import argparse

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
import tensorflow as tf  # noqa: E402

from astroflow.sims import weighting  # noqa: E402
from astroflow.sims.distributions import tensorflow_ops  # noqa: E402
from astroflow.sims.fourier.grid import ModeGrid  # noqa: E402
from astroflow.sims.fourier.psf import image_transform  # noqa: E402
from astroflow.sims.recipe import load_simulator  # noqa: E402

SEED, NOISES = 5, 200
STEPS = (1, 2, 3, 5)


def slopes(simulator, simulation) -> tuple[np.ndarray, np.ndarray]:
    """Return models ``(N, size, size)`` and their slopes ``(N, P, size, size)`` on the prior's scale, at the truth."""
    stamps, prior, n = simulation.stamps, simulator.parameters.prior, len(simulation)
    grid, ops = ModeGrid(stamps.shape[-1], 1.0), tensorflow_ops()
    planes = image_transform(tf.constant(stamps.psf[:, 0]), 1, grid)
    u = tf.constant(prior.inverse(simulation.theta), tf.float32)
    zero_points, steps = tf.fill([n], np.float32(stamps.zero_point)), tf.constant(stamps.stamp_scale_arcsec, tf.float32)
    drawn = simulator.fourier.images_and_slopes(lambda v: prior.forward(v, ops), u, planes, zero_points, steps, tf.zeros([n, 2]), grid)
    return tuple(part.numpy().astype(np.float64) for part in drawn)


def dense(correlation: np.ndarray, rms: np.ndarray, variance: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the covariance of the pixels `there`."""
    middle, side = len(correlation) // 2, len(rms)
    y, x = np.divmod(there, side)
    dy, dx = y[:, None] - y, x[:, None] - x
    near = (np.abs(dy) <= middle) & (np.abs(dx) <= middle)
    pixels = np.where(near, correlation[np.clip(dy + middle, 0, 2 * middle), np.clip(dx + middle, 0, 2 * middle)], 0.0)
    scatter = rms.ravel()[there]
    return pixels * np.outer(scatter, scatter) + np.diag((variance - rms**2).ravel()[there])


def efficiency(exact: np.ndarray, known: np.ndarray) -> float:
    """Return the median efficiency over noises of N(mean, known^-1) as a proposal for N(mean, exact^-1), given linear models."""
    # the proposal's mean scatters about the exact one by as much as its covariance is larger
    wider = np.maximum(scipy.linalg.eigvalsh(exact, known) - 1, 0)
    shift = np.random.default_rng(SEED).normal(size=(NOISES, len(wider))) * np.sqrt(wider)
    variance = 1 + wider
    a = 2 - 1 / variance
    return float(np.median(np.exp(-(0.5 * np.log(variance / a) - shift**2 + 2 * shift**2 / a).sum(1))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="cosmos_acs", help="a recipe of sims/ whose noise is correlated")
    parser.add_argument("--stamps", type=int, default=24)
    given = parser.parse_args()
    simulator = load_simulator(given.model)
    clean = simulator.draw_noiseless(np.arange(given.stamps), SEED)
    simulation = simulator.observe(clean, np.random.default_rng(SEED))
    stamps = simulation.stamps
    models, jacobians = slopes(simulator, simulation)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for i, (model, jacobian) in enumerate(zip(models, jacobians, strict=True)):
        good = ~stamps.mask[i, 0]
        rms = stamps.rms[i, 0].astype(np.float64)
        variance = rms**2 + np.maximum(model, 0) / stamps.gain[i, 0]
        there = np.flatnonzero(good)
        covariance = dense(stamps.noise_correlation[i, 0].astype(np.float64), rms, variance, there)
        columns = jacobian.reshape(len(jacobian), -1)[:, there].T
        one = np.eye(columns.shape[1])
        exact = columns.T @ scipy.linalg.solve(covariance, columns, assume_a="pos") + one
        ways = {"as if independent": columns / variance.ravel()[there, None]}
        inputs = [tf.constant(part[None], tf.float32) for part in (jacobian, rms, variance, good, stamps.noise_correlation[i, 0])]
        for steps in STEPS:
            weighting.STEPS = steps
            weighed = weighting.weighted(*inputs).numpy()[0].astype(np.float64)
            ways[f"{steps} steps"] = weighed.reshape(len(weighed), -1)[:, there].T
        for name, way in ways.items():
            slant = way.T @ columns
            claimed = scipy.linalg.eigvalsh((slant + slant.T) / 2 + one, exact)
            known = slant.T @ np.linalg.solve(way.T @ covariance @ way, slant) + one
            found.setdefault(name, []).append((claimed[0], claimed[-1], efficiency(exact, known)))
        print(f"stamp {i}: binning {stamps.binning[i]}, S/N {simulation.snr[i]:.0f}, {good.mean():.0%} of the pixels", flush=True)
    print("weights: smallest and largest direction of H over the exact one's; efficiency, median and least")
    for name, values in found.items():
        low, high, efficient = np.array(values).T
        print(f"  {name:18s} {low.min():5.2f} {high.max():5.2f}   {np.median(efficient):.3f} {efficient.min():.3f}")


if __name__ == "__main__":
    main()
