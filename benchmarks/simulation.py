"""Simulation: what astroflow costs above the GalSim calls that draw the same stamps.

Bare GalSim is the loop that one would write by hand with the parameters of every galaxy and PSF in a table: two Sersic profiles,
sheared and shifted, a Moffat, one stamp and one PSF image for each galaxy. `Simulator.draw_noiseless` draws the same pixels (checked),
but has to draw the parameters too, each object from its own stream. A shard is the unit of `astroflow simulate`: drawn, compressed,
written, renamed. Rounds alternate, all in one process; the median of their ratios is what counts.
"""

import statistics
import tempfile
import time
from pathlib import Path

import galsim
import numpy as np

from astroflow.pipelines.tasks import simulate_shard
from astroflow.randomness import generator
from astroflow.sims import load_simulator
from astroflow.sims.recipe import simulator_data
from astroflow.sims.simulator import Simulator
from astroflow.training.training_set import SHARD, TrainingSet

ROUNDS, SEED = 7, 3


def by_hand(simulator: Simulator, table: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Draw stamps and PSF images from a table of profile parameters, with GalSim alone."""
    scale, size, psf_size = simulator.stamp.pixel_scale_arcsec, simulator.stamp.size, simulator.stamp.psf_size
    gsparams = simulator.galaxy.gsparams()
    images = np.empty((len(table), 1, size, size), np.float32)
    stars = np.empty((len(table), 1, psf_size, psf_size), np.float32)
    for i, (sersics, jacobian, offset, beta, fwhm, distortion) in enumerate(table):
        parts = [galsim.Sersic(n, half_light_radius=radius, flux=flux, gsparams=gsparams) for n, radius, flux in sersics]
        galaxy = galsim.Sum(parts).transform(*jacobian).shift(*offset)
        psf = galsim.Moffat(beta=beta, fwhm=fwhm).transform(*distortion)
        scene = galsim.Convolve(galaxy, psf.withGSParams(gsparams))
        images[i, 0] = scene.drawImage(nx=size, ny=size, scale=scale, dtype=np.float32).array
        star = psf.drawImage(nx=psf_size, ny=psf_size, scale=scale, dtype=np.float64).array
        stars[i, 0] = star / star.sum()
    return images, stars


def parameters(simulator: Simulator, ids: np.ndarray, theta: np.ndarray) -> list[tuple]:
    """Take the profiles of simulated galaxies and PSFs apart into the numbers that GalSim needs to make them again."""
    table = []
    for identity, row in zip(ids.tolist(), theta.tolist(), strict=True):
        galaxy = simulator.galaxy.profile(dict(zip(simulator.parameters.names, row, strict=True)), simulator.stamp.zero_point)
        psf = simulator.psf.draw(generator(SEED, "psf", identity), simulator.stamp.pixel_scale_arcsec).profile
        sersics = [(part.n, part.half_light_radius, part.flux) for part in galaxy.original.obj_list]
        offset = (galaxy.offset.x, galaxy.offset.y)
        table.append((sersics, galaxy.jac.ravel(), offset, psf.original.beta, psf.original.fwhm, psf.jac.ravel()))
    return table


def main() -> None:
    """Time each and print the overheads."""
    data = simulator_data("demo_survey")
    simulator = load_simulator("demo_survey")
    ids = np.arange(SHARD)
    clean = simulator.draw_noiseless(ids, SEED)
    table = parameters(simulator, ids, clean.theta)
    images, stars = by_hand(simulator, table)
    for ours, theirs in ((clean.images, images), (clean.psf, stars)):
        print(f"largest difference of the pixels: {np.abs(ours - theirs).max() / theirs.max():.1e} of the largest")
    seconds: dict[str, list[float]] = {"bare GalSim": [], "Simulator, noiseless": [], "shard, written": []}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(ROUNDS):
            path = Path(folder) / str(k)
            TrainingSet.create(path, n=SHARD, seed=SEED, recipe=data, parameters=simulator.parameters, stamp=simulator.stamp)
            start = time.perf_counter()
            by_hand(simulator, table)
            bare = time.perf_counter()
            simulator.draw_noiseless(ids, SEED)
            drawn = time.perf_counter()
            simulate_shard(str(path), 0)
            written = time.perf_counter()
            for values, duration in zip(seconds.values(), (bare - start, drawn - bare, written - drawn), strict=True):
                values.append(duration)
    for name, values in seconds.items():
        ratios = [v / b - 1 for v, b in zip(values, seconds["bare GalSim"], strict=True)]
        overhead = f"  overhead {statistics.median(ratios):6.1%} ({min(ratios):.1%} to {max(ratios):.1%})" if any(ratios) else ""
        print(f"{name:22s} {1e3 * statistics.median(values) / SHARD:6.2f} ms a galaxy{overhead}")
    begin = time.perf_counter()
    simulator.observe(clean, generator(SEED, "bench"))
    print(f"noise and masks        {1e3 * (time.perf_counter() - begin) / SHARD:6.2f} ms a galaxy, in a block of {SHARD}")


if __name__ == "__main__":
    main()
