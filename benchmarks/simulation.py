"""Simulation: what everything around GalSim's own drawing costs.

The same galaxies are drawn twice in turn: by bare GalSim calls on profiles and PSFs that are made beforehand, and by
`Simulator.draw_noiseless`, which also draws parameters and PSFs, builds the profiles and writes the PSF images.
"""

import statistics
import time

import numpy as np

from astroflow.randomness import generator
from astroflow.sims import load_simulator

GALAXIES, ROUNDS, SEED = 300, 7, 3


def main() -> None:
    """Time both and print the overhead."""
    simulator = load_simulator("demo_survey")
    ids = np.arange(GALAXIES)
    clean = simulator.draw_noiseless(ids, SEED)
    scale, size = simulator.stamp.pixel_scale_arcsec, simulator.stamp.size
    names = simulator.parameters.names
    galaxies = [simulator.galaxy.profile(dict(zip(names, row.tolist(), strict=True)), simulator.stamp.zero_point) for row in clean.theta]
    points = [simulator.psf.draw(generator(SEED, "psf", i), scale) for i in ids.tolist()]
    bare, whole = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for galaxy, point in zip(galaxies, points, strict=True):
            point.observed(galaxy, scale, 1, size)
        bare.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        simulator.draw_noiseless(ids, SEED)
        whole.append(time.perf_counter() - begin)
    print(f"bare GalSim drawing     {1e3 * statistics.median(bare) / GALAXIES:6.2f} ms a galaxy")
    print(f"Simulator, noiseless    {1e3 * statistics.median(whole) / GALAXIES:6.2f} ms a galaxy")
    ratios = [w / b - 1 for w, b in zip(whole, bare, strict=True)]
    print(f"overhead                {statistics.median(ratios):6.1%} ({min(ratios):.1%} to {max(ratios):.1%})")
    begin = time.perf_counter()
    simulator.observe(clean, generator(SEED, "bench"))
    print(f"noise and masks         {1e3 * (time.perf_counter() - begin) / GALAXIES:6.2f} ms a galaxy, in a block of {GALAXIES}")


if __name__ == "__main__":
    main()
