"""Write simulated stamps of the reference problem, for fits by others. Run in astroflow's environment.

The galaxies are those of ``benchmarks/efficiency.py``: so many in each bin of the simulation's S/N. Beside images, noise and PSFs the file
holds the truth, its noiseless pixels drawn by GalSim (not by the engine that made the images), and the priors.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.efficiency import BINS, galaxies
from benchmarks.peers.conventions import compared_from_astroflow


def main() -> None:
    import astroflow as af
    from astroflow.sims.recipe import simulator_data

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=30, help="in each bin of S/N")
    parser.add_argument("--out", type=Path, default=Path("runs/peers/stamps.npz"))
    given = parser.parse_args()
    simulator = af.load_simulator("reference")
    simulation = galaxies(simulator, given.galaxies)
    stamps, names = simulation.stamps, simulator.parameters.names
    bins = np.searchsorted([low for low, _ in BINS], simulation.snr) - 1
    missing = [BINS[k] for k in range(len(BINS)) if (bins == k).sum() < given.galaxies]
    if missing:
        print(f"fewer than {given.galaxies} galaxies at S/N {missing}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        given.out,
        images=stamps.images[:, 0],
        rms=stamps.rms[:, 0],
        psf=stamps.psf[:, 0],
        noiseless=simulator.render(simulation.theta, stamps, engine="galsim")[:, 0],
        theta=simulation.theta,
        names=names,
        truth=compared_from_astroflow(dict(zip(names, simulation.theta.T.astype(np.float64), strict=True))),
        snr=simulation.snr,
        bins=bins,
        edges=BINS,
        zero_point=stamps.zero_point,
        pixel_scale_arcsec=stamps.pixel_scale_arcsec,
        priors=json.dumps(simulator_data("reference")["galaxy"]),
    )
    print(given.out)


if __name__ == "__main__":
    main()
