"""Reference posteriors of the reference problem: made, checked, and compared with others.

``make`` chooses galaxies that cover the prior in bins of the true S/N, stores what is observed of them, and samples their exact
posteriors with NUTS. ``weigh``, its last step, weighs draws of a broad mixture by the likelihood: the evidence, and a check. ``check`` (the
default) samples some of them anew by tempered sequential Monte Carlo from the prior, which shares neither gradients nor starting
points with NUTS. ``score`` prints how far a bundle's draws, refined or not, or draws in a ``.npy`` file ``(N, S, P)``, are from the
reference.
"""

import argparse
import json
import time
from pathlib import Path

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
from scipy import special, stats  # noqa: E402

from astroflow.diagnostics.reference import LEVELS_PER_RMS, ReferencePosteriors, load_reference, observed, wasserstein  # noqa: E402
from astroflow.posteriors.exact.nuts import sample_nuts  # noqa: E402
from astroflow.posteriors.exact.starts import dispersed_starts  # noqa: E402
from astroflow.sims.likelihood import PixelLikelihood  # noqa: E402
from astroflow.sims.recipe import simulator_data, simulator_from_data  # noqa: E402

FILE = Path(__file__).with_suffix("") / "sersic_v1.npz"
BINS = ((5, 10), (10, 30), (30, 100), (100, 300), (300, 1000))
N_PARTS, RE_PARTS = 3, 4
"""A galaxy of each third of the prior of n and each quarter of that of re, in each bin of S/N."""
SEED = 20_261
FAR = 0.1
"""Distances above it are counted."""
CHAINS, WARM_UP, DRAWS, KEPT = 4, 500, 1000, 2000
CANDIDATES = 20_000


def chosen_galaxies(simulator, rng):
    """Return truths ``(60, P)``, PSFs in float16 and rms."""
    clean = simulator.draw_block(rng, CANDIDATES)
    rms = simulator.noise.levels(rng, CANDIDATES).rms[:, 0].astype(np.float32)
    snr = np.linalg.norm(clean.images.reshape(CANDIDATES, -1), axis=1) / rms
    u = special.ndtr(simulator.parameters.prior.inverse(clean.theta.astype(np.float64)))
    names = simulator.parameters.names
    cell = (u[:, names.index("n")] * N_PARTS).astype(int) * RE_PARTS + (u[:, names.index("re_arcsec")] * RE_PARTS).astype(int)
    rows = [np.flatnonzero((snr > low) & (snr < high) & (cell == part))[0] for low, high in BINS for part in range(N_PARTS * RE_PARTS)]
    return clean.theta[rows], clean.psf[rows, 0].astype(np.float16), rms[rows]


def observe(simulator, truth, psf, rms, rng):
    """Return stored levels of images ``(N, H, W)``, true S/N, and the stamps that these numbers are."""
    size = simulator.stamp.size
    ids = np.arange(len(truth))
    empty = observed(np.zeros((len(truth), size, size), np.int16), rms, psf, ids, simulator)
    clean = simulator.render(truth, empty, engine="fourier")[:, 0] / rms[:, None, None]
    levels = np.rint(LEVELS_PER_RMS * (clean + rng.normal(size=clean.shape))).astype(np.int16)
    return levels, np.sqrt((clean.astype(np.float64) ** 2).sum((1, 2))), observed(levels, rms, psf, ids, simulator)


def log_posterior(simulator, stamps, u):
    """Log likelihood plus log prior density of u ``(N, S, P)``, by another way than the sampler's; ``(N, S)``."""
    models = simulator.fourier.render_draws(simulator.parameters.prior.forward(u).astype(np.float32), stamps)
    return PixelLikelihood(stamps).log_prob(models).numpy() + stats.norm.logpdf(u).sum(-1)


# -- importance sampling ---------------------------------------------------------------------------------------------------


def mixture_of(u, count, rng, rounds=30):
    """Fit a mixture of Gaussians to draws ``(S, P)`` by expectation maximisation: weights, means and covariances."""
    size, total = u.shape[1], np.cov(u.T)
    means, covariances = u[rng.choice(len(u), count, replace=False)], np.repeat(total[None], count, 0)
    weights = np.full(count, 1 / count)
    for _ in range(rounds):
        logs = np.stack(
            [np.log(w) + stats.multivariate_normal(m, c).logpdf(u) for w, m, c in zip(weights, means, covariances, strict=True)]
        )
        share = np.exp(logs - special.logsumexp(logs, 0))
        weights = np.maximum(share.mean(1), 1e-6)
        weights /= weights.sum()
        means = (share @ u) / np.maximum(share.sum(1), 1e-9)[:, None]
        covariances = np.array([((s * (u - m).T) @ (u - m) + 5 * total) / (s.sum() + 5) for s, m in zip(share, means, strict=True)])
    return weights, means, covariances + 1e-12 * np.eye(size)


def weigh_mixture(simulator, stamps, u, count, rng, wide=1.3, tail=6):
    """Importance sampling of one stamp by t distributions about a mixture fitted to draws ``(S, P)``, and the prior for a twentieth.

    Returns draws ``(count, P)``, weights of unit sum, the log evidence and its error.
    """
    parts = mixture_of(u, 6, rng)
    proposals = [stats.multivariate_t(m, wide * c, df=tail, seed=rng) for m, c in zip(*parts[1:], strict=True)]
    shares = rng.multinomial(count - count // 20, parts[0])
    drawn = [np.atleast_2d(one.rvs(k)) for one, k in zip(proposals, shares, strict=True) if k]
    x = np.concatenate([*drawn, rng.normal(size=(count // 20, u.shape[1]))])
    logs = [np.log(w) + one.logpdf(x) for w, one in zip(0.95 * parts[0], proposals, strict=True)]
    log_proposal = special.logsumexp([*logs, np.log(0.05) + stats.norm.logpdf(x).sum(-1)], 0)
    inside = (np.abs(x) < 8).all(1)
    log_weights = np.where(inside, log_posterior(simulator, stamps, np.where(inside[:, None], x, 0)[None])[0] - log_proposal, -np.inf)
    evidence = special.logsumexp(log_weights) - np.log(len(x))
    weights = np.exp(log_weights - special.logsumexp(log_weights))
    return x, weights, evidence, np.sqrt((weights**2).sum())


# -- sequential Monte Carlo ------------------------------------------------------------------------------------------------


def tempered(simulator, stamps, rng, particles=512, moves=10, keep=0.6):
    """Sample one posterior by tempering from the prior to the posterior: u ``(particles, P)``, log evidence.

    Each temperature keeps `keep` of the particles' effective number; then all move by random-walk Metropolis steps of their covariance.
    """
    size = len(simulator.parameters)
    likelihood = PixelLikelihood(stamps)

    def log_likelihood(u):
        theta = simulator.parameters.prior.forward(u).astype(np.float32)
        return likelihood.log_prob(simulator.fourier.render_draws(theta[None], stamps)).numpy()[0]

    u = rng.normal(size=(particles, size))
    value, beta, evidence, scale = log_likelihood(u), 0.0, 0.0, 2.38 / np.sqrt(size)
    while beta < 1:

        def effective(step, value=value):
            w = np.exp(step * (value - value.max()))
            return w.sum() ** 2 / (w**2).sum() / particles

        low, high = 0.0, 1 - beta
        if effective(high) < keep:
            for _ in range(60):
                middle = (low + high) / 2
                low, high = (middle, high) if effective(middle) > keep else (low, middle)
        step = high
        evidence += special.logsumexp(step * value) - np.log(particles)
        weights = np.exp(step * (value - value.max()))
        beta = min(1.0, beta + step)
        # systematic resampling
        places = np.searchsorted(np.cumsum(weights) / weights.sum(), (np.arange(particles) + rng.random()) / particles)
        u, value = u[np.minimum(places, particles - 1)], value[np.minimum(places, particles - 1)]
        factor = np.linalg.cholesky(np.cov(u.T) + 1e-14 * np.eye(size))
        for _ in range(moves if beta < 1 else 3 * moves):
            proposed = u + scale * rng.normal(size=u.shape) @ factor.T
            new = log_likelihood(proposed)
            accepted = np.log(rng.random(particles)) < beta * (new - value) - 0.5 * ((proposed**2).sum(1) - (u**2).sum(1))
            u, value = np.where(accepted[:, None], proposed, u), np.where(accepted, new, value)
            scale *= np.exp(0.3 * (accepted.mean() - 0.25))
    return u, evidence


# -- commands --------------------------------------------------------------------------------------------------------------


def make(given) -> None:
    data = simulator_data("reference")
    simulator = simulator_from_data(data)
    rng = np.random.default_rng(SEED)
    truth, psf, rms = chosen_galaxies(simulator, rng)
    levels, snr, stamps = observe(simulator, truth, psf, rms, rng)
    rows = np.arange(len(truth)) if given.rows is None else np.array(given.rows)
    truth, psf, rms, levels, snr, stamps = (values[rows] for values in (truth, psf, rms, levels, snr, stamps))
    began = time.time()
    engine, prior = simulator.fourier, simulator.parameters.prior
    starts = dispersed_starts(engine, prior, stamps, CHAINS, SEED)
    print(f"starts after {time.time() - began:.0f} s", flush=True)

    def report(first: int) -> None:
        print(f"galaxies from {first} after {time.time() - began:.0f} s", flush=True)

    draws = sample_nuts(
        engine, prior, stamps, starts.u, starts.point, starts.factor, warm_up=WARM_UP, draws=DRAWS, seed=SEED, progress=report
    )
    u = draws.thinned(KEPT)
    mean, factor = u.mean(1), np.linalg.cholesky([np.cov(one.T) for one in u])
    z = np.linalg.solve(factor[:, None], (u - mean[:, None])[..., None])[..., 0].astype(np.float16)
    about = {
        "version": 1, "seed": SEED, "chains": CHAINS, "warm_up": WARM_UP, "draws": DRAWS, "divergent": draws.divergent.round(5).tolist(),
        "leapfrogs": draws.leapfrogs.round(2).tolist(), "forward_model": data,
    }  # fmt: skip
    unknown = np.full(len(rows), np.nan)
    given.file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        given.file, levels=levels, rms=rms, psf=psf, ids=stamps.ids, truth=truth, snr=snr, z=z, mean=mean, factor=factor,
        rhat=draws.rhat.astype(np.float32), ess=draws.ess.astype(np.float32), log_evidence=unknown, log_evidence_error=unknown,
        about=json.dumps(about),
    )  # fmt: skip
    weigh(given)


def weigh(given) -> None:
    """Weigh a mixture fitted to each galaxy's draws: distances to them, and the log evidence, which is kept in the file."""
    reference = load_reference(given.file)
    rng = np.random.default_rng(SEED + 1)
    found = [weigh_mixture(reference.simulator, reference.stamps[[i]], u, given.weighed, rng) for i, u in enumerate(reference.u)]
    with np.load(given.file) as file:
        held = dict(file)
    held["log_evidence"], held["log_evidence_error"] = (np.array([one[k] for one in found]) for k in (2, 3))
    np.savez_compressed(given.file, **held)
    theta = reference.simulator.parameters.prior.forward(np.stack([one[0] for one in found]))
    distances = wasserstein(theta, reference.theta, np.stack([one[1] for one in found]))
    extra = {"effective": held["log_evidence_error"] ** -2, "log evidence": held["log_evidence"]}
    table(reference, distances, extra | {name: np.array(reference.about[name]) for name in ("leapfrogs", "divergent")})
    print(f"{given.file.stat().st_size / 1e6:.2f} MB")


def table(reference: ReferencePosteriors, distances, extra=None) -> None:
    """Print distances, and what is known of the reference's chains, one line a galaxy."""
    print("galaxy  S/N    n     re   largest R-hat  least ESS  " + "  ".join(extra or {}) + "  distances: " + " ".join(reference.names))
    n, re = (reference.truth[:, reference.names.index(name)] for name in ("n", "re_arcsec"))
    for i in range(len(reference)):
        others = "  ".join(f"{values[i]:8.3f}" for values in (extra or {}).values())
        print(
            f"{reference.stamps.ids[i]:3d}  {reference.snr[i]:7.1f} {n[i]:5.2f} {re[i]:5.2f}  {reference.rhat[i].max():.4f} "
            f"{reference.ess[i].min():6.0f}  {others}  {' '.join(f'{d:.3f}' for d in distances[i])}"
        )
    print(summary(distances))


def summary(distances) -> str:
    known = distances[np.isfinite(distances)]
    return f"median {np.median(known):.3f}, largest {known.max():.3f}, {np.sum(known > FAR)} of {len(known)} above {FAR}"


def check(given) -> None:
    reference = load_reference(given.file)
    rng = np.random.default_rng(given.seed)
    for row in np.array(given.rows if given.rows is not None else range(5, len(reference), 12)):
        began = time.time()
        u, evidence = tempered(reference.simulator, reference.stamps[[row]], rng)
        distance = wasserstein(reference.simulator.parameters.prior.forward(u)[None], reference.theta[[row]])[0]
        print(
            f"{row:3d}  S/N {reference.snr[row]:6.1f}  log evidence {evidence:.2f} against {reference.log_evidence[row]:.2f}, distances "
            f"{' '.join(f'{d:.3f}' for d in distance)}, {time.time() - began:.0f} s",
            flush=True,
        )


def score(given) -> None:
    reference = load_reference(given.file)
    if given.draws.suffix == ".npy":
        draws = np.load(given.draws)
    else:
        from astroflow.posteriors.bundle import load_posterior

        posterior = load_posterior(given.draws)
        if given.refine:
            draws = posterior.refine(reference.stamps, 1000, seed=given.seed).draws
        else:
            draws = posterior.sample(reference.stamps, n_draws=2000, seed=given.seed)
    table(reference, wasserstein(draws, reference.theta))
    print(f"chance alone, with as many draws of normal approximations: {chance(reference, draws.shape[1])}")


def chance(reference: ReferencePosteriors, count: int) -> str:
    """Say what distances chance alone gives: `count` draws of each galaxy's normal approximation against 2000 others."""
    rng = np.random.default_rng(SEED + 2)
    u = [np.asarray(one, np.float64) for one in reference.u]
    factors = [(one.mean(0), np.linalg.cholesky(np.cov(one.T))) for one in u]
    parts = []
    for size in (count, reference.theta.shape[1]):
        drawn = [mean + rng.normal(size=(size, len(mean))) @ factor.T for mean, factor in factors]
        parts.append(reference.simulator.parameters.prior.forward(np.stack(drawn)))
    return summary(wasserstein(*parts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(run=check, rows=None)
    commands = parser.add_subparsers()
    for name, run in (("make", make), ("weigh", weigh), ("check", check), ("score", score)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name == "score":
            command.add_argument("draws", type=Path, help="a bundle, or a .npy file of draws (N, S, P)")
            command.add_argument("--refine", action="store_true", help="score the bundle's draws once they are refined, 1000 each")
        if name in ("make", "check"):
            command.add_argument("--rows", type=int, nargs="+", help="positions of galaxies")
        if name in ("make", "weigh"):
            command.add_argument("--weighed", type=int, default=20_000)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
