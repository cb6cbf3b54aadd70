"""Rendering: what mixing two tabulated Sersic indices costs in accuracy, and saves in time.

Run by hand: ``python benchmarks/rendering.py``. For Sersic indices halfway between two tabulated ones, where the mixture is
furthest off: the largest pixel error against the exact profile, as a fraction of the peak, from the ground and from space.
Then milliseconds per stamp of both.
"""

import time

import galsim
import numpy as np

from astroflow.sims.galaxies import SersicGalaxy

STAMP = 48
VIEWS = {  # FWHM and pixel in arcsec, sizes in arcsec
    "ground": (0.7, 0.2, (0.15, 0.5, 1.5)),
    "space": (0.09, 0.03, (0.05, 0.3, 1.5)),
}


def draw(galaxy, view, n, re, exact):
    fwhm, pixel, _ = VIEWS[view]
    theta = {"mag": 20.0, "re_arcsec": re, "n": n, "e1": 0.2, "e2": 0.1, "dx_arcsec": 0.03, "dy_arcsec": -0.02}
    profile = galaxy.profile(theta, 27.0, exact=exact)
    scene = galsim.Convolve(profile, galsim.Moffat(beta=3.0, fwhm=fwhm, gsparams=profile.gsparams))
    return scene.drawImage(nx=STAMP, ny=STAMP, scale=pixel).array


def main():
    galaxy = SersicGalaxy()
    nodes = galaxy.nodes
    print(f"{len(nodes)} indices from {nodes[0]:g} to {nodes[-1]:g}; error of the mixture, as a fraction of the peak")
    columns = [(view, re) for view, (_, _, sizes) in VIEWS.items() for re in sizes]
    print("      n" + "".join(f'{view} {re:g}"'.rjust(14) for view, re in columns))
    worst = 0.0
    for k in range(0, len(nodes) - 1, 6):
        n = float(np.sqrt(nodes[k] * nodes[k + 1]))
        errors = []
        for view, re in columns:
            exact, mixed = (draw(galaxy, view, n, re, e) for e in (True, False))
            errors.append(float(np.abs(mixed - exact).max() / exact.max()))
        worst = max(worst, *errors)
        print(f"{n:7.3f}" + "".join(f"{e:14.1e}" for e in errors))
    print(f"largest: {worst:.1e}")

    rng = np.random.default_rng(0)
    for node in nodes:  # fill GalSim's cache, as the first stamps of a run do
        draw(galaxy, "ground", float(node), 0.5, False)
    for name, exact, count in (("exact", True, 20), ("mixture", False, 200)):
        indices, sizes = np.exp(rng.uniform(np.log(0.5), np.log(6), count)), rng.uniform(0.2, 1.5, count)
        start = time.perf_counter()
        for n, re in zip(indices, sizes, strict=True):
            draw(galaxy, "ground", float(n), float(re), exact)
        print(f"{name:8s} {1e3 * (time.perf_counter() - start) / count:8.2f} ms a stamp")


if __name__ == "__main__":
    main()
