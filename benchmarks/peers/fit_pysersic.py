"""Fit the stamps with pysersic: MAP of all, NUTS of a few in each bin. Peer's environment.

One line of JSON per fit is appended to the output at once; fits that it holds are not made again (see `results`). Priors are those that
the stamps were drawn from, except that n starts at pysersic's own lower limit of 0.65: its renderers give NaN below.

pysersic compiles every fit anew, because the image is a constant of its program. JAX itself reports what it spends on tracing, lowering and
compiling; that is written apart from the rest.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")  # its progress bars are thousands of lines

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import distributions as dist
from numpyro import infer
from numpyro.diagnostics import effective_sample_size
from pysersic import FitSingle
from pysersic.priors import PySersicSourcePrior

from benchmarks.jsonl import append
from benchmarks.peers.conventions import compared_from_pysersic, flux
from benchmarks.peers.results import left_to_do

LEAST_N = 0.65
GAUSSIANS = 15
"""Of pysersic's renderer, unless told otherwise."""
PARTS = ("jaxpr_trace_duration", "jaxpr_to_mlir_module_duration", "backend_compile_duration")


class EllipticityOfCDF(dist.transforms.Transform):
    """From the share of galaxies that are rounder to ``ellip = 1 - q``; ``e1, e2`` normal with `sigma`, cut at ``|e| = high``."""

    domain = dist.constraints.unit_interval
    codomain = dist.constraints.unit_interval

    def __init__(self, sigma: float, high: float) -> None:
        self.sigma, self.mass = sigma, -np.expm1(-0.5 * (high / sigma) ** 2)

    def __call__(self, p):
        e = self.sigma * jnp.sqrt(-2 * jnp.log1p(-self.mass * p))
        return 2 * e / (1 + e)

    def tree_flatten(self):
        return (self.sigma, self.mass), (("sigma", "mass"), {})


def log_uniform(low: float, high: float) -> dist.Distribution:
    steps = [dist.transforms.AffineTransform(np.log(low), np.log(high / low)), dist.transforms.ExpTransform()]
    return dist.TransformedDistribution(dist.Uniform(0.0, 1.0), steps)


def make_prior(priors: dict, zero_point: float, scale: float, size: int) -> PySersicSourcePrior:
    """Express the recipe's priors in pysersic's parameters; theta runs over a whole turn, as its own does, so that no fit meets an end."""
    prior, middle = PySersicSourcePrior(profile_type="sersic", sky_type="none"), (size - 1) / 2
    for name, given in (("xc", priors["dx_arcsec"]), ("yc", priors["dy_arcsec"])):
        mean, sd, low, high = (given[key] / scale for key in ("mean", "sd", "low", "high"))
        prior.set_truncated_gaussian_prior(name, middle + mean, sd, middle + low, middle + high)
    mag, re, n, e = (priors[name] for name in ("mag", "re_arcsec", "n", "ellipticity"))
    custom = {
        "flux": log_uniform(float(flux(mag["high"], zero_point)), float(flux(mag["low"], zero_point))),
        "r_eff": log_uniform(re["low"] / scale, re["high"] / scale),
        "n": log_uniform(max(n["low"], LEAST_N), n["high"]),
        "ellip": dist.TransformedDistribution(dist.Uniform(0.0, 1.0), [EllipticityOfCDF(e["sigma"], e["high"])]),
    }
    for name, distribution in custom.items():
        prior.set_custom_prior(name, distribution, reparam=infer.reparam.TransformReparam())
    prior.set_uniform_prior("theta", 0.0, 2 * np.pi)
    return prior


class CompileClock:
    """Seconds that JAX spent on compiling; nested traces are counted in their outermost alone."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_: object) -> None:
        if event.endswith(PARTS):
            end = time.perf_counter()
            self.spans.append((end - seconds, end))

    def seconds(self) -> float:
        """Return the length of the union of all spans so far, and forget them."""
        total, reached = 0.0, -np.inf
        for begin, end in sorted(self.spans):
            total += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        self.spans.clear()
        return total


def fit(fitter: FitSingle, method: str, key: jax.Array, draws: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return parameters, one or many of each, and what the sampler says of itself."""
    if method == "map":
        found = fitter.find_MAP(key, return_model=False)
        return {name: np.asarray(value) for name, value in found.items()}, {}
    # From the middle of the prior, as the MAP fit; pysersic's own choice, a draw of the prior, is often too far away at high S/N.
    result = fitter.sample(
        key, num_samples=draws, num_warmup=draws, num_chains=1, init_strategy=infer.init_to_median, return_model=False,
        mcmc_kwargs={"progress_bar": False},
    )  # fmt: skip
    found = {name: values.to_numpy()[0] for name, values in result.idata.posterior.items()}
    ess = min(float(effective_sample_size(values[None])) for name, values in found.items() if name != "theta")  # an angle has no ESS
    return found, {"draws": draws, "ess": ess, "divergences": float(result.idata.sample_stats["diverging"].sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("runs/peers/stamps.npz"))
    parser.add_argument("--out", type=Path, default=Path("runs/peers/pysersic.jsonl"))
    parser.add_argument("--method", choices=("map", "nuts"), default="map")
    parser.add_argument("--galaxies", type=int, default=30, help="in each bin")
    parser.add_argument("--draws", type=int, default=500, help="of NUTS, after as many of warm-up; one chain")
    parser.add_argument("--gaussians", type=int, default=GAUSSIANS, help="components of the profile; pysersic's default is %(default)s")
    parser.add_argument("--minutes", type=float, default=10.0, help="start no fit after these; run again to go on")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")  # of ArviZ about its future, and of Equinox about static arrays
    begin, clock, data = time.perf_counter(), CompileClock(), dict(np.load(given.stamps))
    zero_point, scale, size = float(data["zero_point"]), float(data["pixel_scale_arcsec"]), data["images"].shape[-1]
    prior = make_prior(json.loads(str(data["priors"])), zero_point, scale, size)
    name = f"pysersic {given.method}" + ("" if given.gaussians == GAUSSIANS else f", {given.gaussians} Gaussians")
    todo = left_to_do(given.out, name, data["bins"], given.galaxies)
    for count, i in enumerate(todo):
        if time.perf_counter() - begin > 60 * given.minutes:
            print(f"out of time: {len(todo) - count} are left; run again to go on")
            return
        clock.seconds()
        start, cpu = time.perf_counter(), time.process_time()
        fitter = FitSingle(data["images"][i], data["rms"][i], data["psf"][i], prior, renderer_kwargs={"n_sigma": given.gaussians})
        found, diagnosis = fit(fitter, given.method, jax.random.PRNGKey(i), given.draws)
        seconds, cpu, compiling = time.perf_counter() - start, time.process_time() - cpu, clock.seconds()
        values = np.atleast_2d(compared_from_pysersic(found, zero_point, scale))
        line = {
            "galaxy": i, "method": name, "estimate": values.mean(0).tolist(), "sd": values.std(0).tolist() if len(values) > 1 else None,
            "seconds": seconds, "compile_seconds": compiling, "cpu_seconds": cpu, **diagnosis,
        }  # fmt: skip
        append(given.out, line)
        print(f"{name}: galaxy {i}, S/N {data['snr'][i]:.0f}: {seconds:.1f} s, compiling {compiling:.1f} s, CPU {cpu:.1f} s", flush=True)


if __name__ == "__main__":
    main()
