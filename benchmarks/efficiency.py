"""How well posteriors agree with the exact likelihood: importance efficiency by signal-to-noise, with and without the linearised stage.

Takes a bundle, unless told otherwise the checkout's own, and new galaxies of its forward model on pixels that are not binned;
prints for each bin of the true S/N the median of ESS/N, its first percentile and the share of galaxies below 0.1, 0.5 and 0.75.
``--refine N`` refines those of N galaxies of any S/N from 5 on whose draws fail the certificate, and prints what share of all reaches 0.5.
"""

import argparse
import time
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402

from astroflow.posteriors.bundle import load_posterior  # noqa: E402
from astroflow.posteriors.exact.certificate import Verdict  # noqa: E402
from astroflow.posteriors.exact.refine import Method  # noqa: E402
from astroflow.sims.psfs import NumericPopulation  # noqa: E402
from astroflow.sims.recipe import simulator_from_data  # noqa: E402

BINS = ((5, 10), (10, 30), (30, 100), (100, 300), (300, 1000))
SEED = 30_000
PSFS = 256
FEWEST = 10
"""Bins of fewer galaxies say nothing."""


def drawn(simulator, rng, count: int):
    """Return about `count` galaxies of a forward model, on native pixels: the likelihood does not follow simulations of binned ones."""
    scale, binnings = simulator.stamp.pixel_scale_arcsec, len(simulator.stamp.binning)
    psfs = () if isinstance(simulator.psf, NumericPopulation) else [simulator.psf.draw(rng, scale) for _ in range(PSFS)]
    simulation = simulator.observe(simulator.draw_block(rng, binnings * count, psfs), rng)
    return simulation[np.flatnonzero(simulation.stamps.binning == 1)]


def galaxies(simulator, count: int):
    """Return `count` galaxies of each bin, in the order of the bins."""
    simulation = drawn(simulator, np.random.default_rng(SEED), 12 * count)
    chosen = [np.flatnonzero((simulation.snr > low) & (simulation.snr < high))[:count] for low, high in BINS]
    return simulation[np.concatenate(chosen)]


def repair(posterior, simulator, count: int) -> None:
    """Certify `count` galaxies, refine those that fail, and print what it took."""
    rng = np.random.default_rng(SEED + 1)
    parts = []
    while sum(len(part) for part in parts) < count:
        simulation = drawn(simulator, rng, 1024)
        parts.append(simulation[np.flatnonzero(simulation.snr > BINS[0][0])])
    failed, after, evaluations, poor, seconds, rows = 0, [], [], [], 0.0, 0
    for part in parts:
        encoded = posterior.encode(part.stamps)
        certificate = posterior.certify(encoded, n_draws=256, seed=1)
        asked = certificate.inference == Verdict.FAILED
        begin = time.perf_counter()
        refined = posterior.refine(encoded, 256, 1, where=asked)
        seconds += time.perf_counter() - begin
        rows += len(part)
        failed += asked.sum()
        # rows that could not be repaired keep their amortized draws
        after.append(np.where(refined.method > Method.POOR, refined.efficiency, certificate.efficiency))
        evaluations.append(refined.evaluations[asked])
        for row in np.flatnonzero(asked & (refined.method <= Method.POOR)):
            poor.append(f"S/N {part.snr[row]:.0f}, theta {part.theta[row].round(2).tolist()}, ESS/N {refined.efficiency[row]:.2f}")
    after, evaluations = np.concatenate(after), np.concatenate(evaluations)
    if not failed:
        print(f"{rows} rows: none failed")
        return
    quantiles = ", ".join(f"{q:.0f}" for q in np.quantile(evaluations, [0.5, 0.9, 0.99, 1]))
    print(f"{rows} rows: {failed} failed and were refined, {seconds / failed:.2f} s each; {len(poor)} not good in the end")
    print(f"  evaluations of the likelihood, median, 90 %, 99 %, most: {quantiles}")
    print(f"  share of all rows with ESS/N of at least 0.5: {np.mean(after >= 0.5):.5f}", *poor, sep="\n  ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, default=Path("benchmarks/reference_bundle"))
    parser.add_argument("--galaxies", type=int, default=300)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--refine", type=int, default=0)
    given = parser.parse_args()
    posterior = load_posterior(given.bundle)
    simulator = simulator_from_data(posterior.forward_model)
    if given.refine:
        repair(posterior, simulator, given.refine)
        return
    simulation = galaxies(simulator, given.galaxies)
    modes = {"the network's own": np.inf} | ({} if posterior.linearized is None else {"linearised": 0.0})
    for name, least in modes.items():
        encoded = posterior.encode(simulation.stamps, least_snr=least)
        certificate = posterior.certify(encoded, n_draws=given.draws, seed=1)
        print(
            f"{name}: S/N, galaxies, median ESS/N, first percentile, share below 0.1, 0.5, 0.75; median k-hat; inference and model passed"
        )
        for low, high in BINS:
            some = (simulation.snr > low) & (simulation.snr < high)
            if some.sum() < FEWEST:
                continue
            e = certificate.efficiency[some]
            shares = "  ".join(f"{np.mean(e < limit):6.3f}" for limit in (0.1, 0.5, 0.75))
            passed = f"{np.mean(certificate.inference[some] == 1):.3f}  {np.mean(certificate.model[some] == 1):.3f}"
            print(
                f"  {low:4d} to {high:4d}  {some.sum():4d}  {np.median(e):6.3f}  {np.quantile(e, 0.01):6.3f}  {shares}  "
                f"{np.median(certificate.k_hat[some]):6.2f}  {passed}",
                flush=True,
            )


if __name__ == "__main__":
    main()
