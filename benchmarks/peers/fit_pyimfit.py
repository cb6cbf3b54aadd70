"""Fit the stamps with PyImfit (Erwin 2015): least squares by Levenberg-Marquardt, within the bounds of the priors. Peer's environment.

One line of JSON per fit is appended to the output at once; fits that it holds are not made again (see `results`). A fit that does not
converge is a line too, without an estimate and with the reason.

Each fit starts at the middle of the priors, as pysersic's MAP does, except for the shape, which is that of the pixels' second moments:
from a wrong direction Levenberg-Marquardt ends at a round galaxy, where no direction is better than another. It has one thread. It claims
the errors that PyImfit gives of re, n and q, and one of mag from the same curvature (see `claimed`).
"""

import argparse
import contextlib
import io
import itertools
import json
import time
from pathlib import Path

import numpy as np
import pyimfit
from pyimfit.fitting import FitError

from benchmarks.jsonl import append
from benchmarks.peers.claimed import claimed_errors
from benchmarks.peers.conventions import compared_from_pyimfit, psf_for_pyimfit, to_pyimfit
from benchmarks.peers.moments import shape_of_pixels
from benchmarks.peers.results import left_to_do

OVERSAMPLING = 1
"""Of the middle of the stamp, unless told otherwise: none, as PyImfit's own. Small galaxies of high n are wrong by percents (`renders`)."""
REACH = 11
"""Pixels to either side of the middle that are oversampled. No centre is further from it than 2.5."""
TOLERANCE = 1e-6
"""Of chi-squared, in parts: 0.004 of a stamp's. PyImfit's default, 1e-8, costs hundreds of evaluations in the noise of its subsampling."""
NAMES = ("X0", "Y0", "PA", "ell", "n", "I_e", "r_e")


def quiet() -> contextlib.AbstractContextManager:
    """Return a context that PyImfit does not print in; it reports every image that it draws."""
    return contextlib.redirect_stdout(io.StringIO())


def bounds_of(priors: dict, zero_point: float, scale: float, size: int) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return where fits start, and their bounds; the angle has none. Those of ``I_e`` hold every galaxy of the prior."""
    mag, re, n, e = (priors[name] for name in ("mag", "re_arcsec", "n", "ellipticity"))
    mass = -np.expm1(-0.5 * (e["high"] / e["sigma"]) ** 2)
    median = {
        "mag": (mag["low"] + mag["high"]) / 2, "re_arcsec": np.sqrt(re["low"] * re["high"]), "n": np.sqrt(n["low"] * n["high"]),
        "e1": e["sigma"] * np.sqrt(-2 * np.log1p(-mass / 2)), "e2": 0.0, "dx_arcsec": 0.0, "dy_arcsec": 0.0,
    }  # fmt: skip
    dx, dy = ((priors[name]["low"], priors[name]["high"]) for name in ("dx_arcsec", "dy_arcsec"))
    corners = itertools.product(*((prior["low"], prior["high"]) for prior in (mag, re, n)), (0.0, e["high"]), zip(dx, dy, strict=True))
    ends = [
        to_pyimfit({"mag": a, "re_arcsec": b, "n": c, "e1": d, "e2": 0.0, "dx_arcsec": x, "dy_arcsec": y}, zero_point, scale, size)
        for a, b, c, d, (x, y) in corners
    ]
    bounds = {name: (min(end[name] for end in ends), max(end[name] for end in ends)) for name in NAMES if name != "PA"}
    return to_pyimfit(median, zero_point, scale, size), bounds


def make_fitter(psf: np.ndarray, parameters: dict, oversampling: int, size: int) -> tuple[pyimfit.Imfit, dict]:
    """Return a fitter of one Sersic galaxy, and what its data have to be loaded with."""
    function = {"name": "Sersic", "label": "", "parameters": {name: parameters[name] for name in NAMES[2:]}}
    model = {"function_sets": [{"X0": parameters["X0"], "Y0": parameters["Y0"], "function_list": [function]}]}
    fitter = pyimfit.Imfit(model, psf=psf_for_pyimfit(psf, 1), maxThreads=1)
    if oversampling == 1:
        return fitter, {}
    region = [size // 2 - REACH + 1, size // 2 + REACH] * 2
    return fitter, {"psf_oversampling_list": [pyimfit.MakePsfOversampler(psf_for_pyimfit(psf, oversampling), oversampling, region)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=Path, default=Path("runs/peers/stamps.npz"))
    parser.add_argument("--out", type=Path, default=Path("runs/peers/pyimfit.jsonl"))
    parser.add_argument("--galaxies", type=int, default=30, help="in each bin")
    parser.add_argument("--oversampling", type=int, default=OVERSAMPLING, help="of the middle of the stamp; 1 is none")
    parser.add_argument("--minutes", type=float, default=30.0, help="start no fit after these; run again to go on")
    given = parser.parse_args()
    begin, data = time.perf_counter(), dict(np.load(given.stamps))
    zero_point, scale, size = float(data["zero_point"]), float(data["pixel_scale_arcsec"]), data["images"].shape[-1]
    start, bounds = bounds_of(json.loads(str(data["priors"])), zero_point, scale, size)
    name = "pyimfit" + ("" if given.oversampling == OVERSAMPLING else f", oversampling {given.oversampling}")
    todo = left_to_do(given.out, name, data["bins"], given.galaxies)
    for count, i in enumerate(todo):
        if time.perf_counter() - begin > 60 * given.minutes:
            print(f"out of time: {len(todo) - count} are left; run again to go on")
            return
        wall, cpu = time.perf_counter(), time.process_time()
        image, rms = data["images"][i].astype(np.float64), data["rms"][i].astype(np.float64)
        estimate, sd, more = np.full(4, np.nan), np.full(4, np.nan), {}
        shape = shape_of_pixels(image, rms)
        here = start | (dict(zip(("PA", "ell"), shape, strict=True)) if shape else {})
        parameters = {name: [value, *bounds[name]] if name in bounds else value for name, value in here.items()}
        with quiet():
            fitter, loaded = make_fitter(data["psf"][i], parameters, given.oversampling, size)
            try:
                result = fitter.fit(image, error=rms, ftol=TOLERANCE, **loaded)
            except FitError:
                more["why"] = "no fit"
            else:
                more.update(chi_squared=result.fitStat, evaluations=result.nFuncEvals, at_bounds=fitter.nPegged)
                if result.fitConverged:
                    best = dict(zip(NAMES, result.params.tolist(), strict=True))
                    estimate = compared_from_pyimfit(best, zero_point, scale)
                    sd = claimed_errors(fitter, best, result.paramErrs, rms, zero_point, scale)
                else:
                    more["why"] = f"not converged after {result.nIter} iterations"
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        append(given.out, {
            "galaxy": i, "method": name, "estimate": estimate.tolist(), "sd": sd.tolist(),
            "seconds": wall, "compile_seconds": 0.0, "cpu_seconds": cpu, **more,
        })  # fmt: skip
        print(f"{name}: galaxy {i}, S/N {data['snr'][i]:.0f}: CPU {cpu:.1f} s", more, flush=True)


if __name__ == "__main__":
    main()
