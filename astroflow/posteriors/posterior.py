"""The `Posterior`: stamps in; draws, densities and summary tables out.

It frames the stamps, encodes each once, draws with base normals keyed by (seed, object id), and flags what is unusual. Rows that
cannot be used keep their place and hold NaN.
"""

__all__ = ["Posterior"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from astroflow.errors import ConfigError, InputError
from astroflow.posteriors.batches import BATCH
from astroflow.posteriors.encoded import Encoded
from astroflow.posteriors.ensemble import AnyEstimator, Ensemble
from astroflow.posteriors.exact.certificate import Certificate, likelihood_gaps
from astroflow.posteriors.exact.reweight import Reweighted, reweight
from astroflow.posteriors.familiarity import Familiarity, unfamiliar_correlation
from astroflow.posteriors.flags import Flag, quality
from astroflow.posteriors.framing import Framed, frame
from astroflow.posteriors.gate import log_mixture
from astroflow.posteriors.inputs import network_inputs
from astroflow.posteriors.kept import Kept, rounded
from astroflow.posteriors.linearized import Linearization, LinearizedStage
from astroflow.posteriors.summary import leans_on_bound, summarize_draws
from astroflow.randomness import standard_normals
from astroflow.sims.fourier.engine import FourierEngine, fourier_engine
from astroflow.sims.parameters import Parameters
from astroflow.sims.priors import JointPrior
from astroflow.sims.recipe import galaxy_from_data
from astroflow.sims.sersics import SersicSum
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Cutout, Stamps

if TYPE_CHECKING:
    from astropy.table import Table

    from astroflow.posteriors.exact.refine import Refinement

LOW_SNR = 5.0
COMPARED = 32
"""At least so many draws of an ensemble are compared among its members, as many of each."""


@dataclass(frozen=True)
class Posterior:
    """A trained posterior ``p(theta | image, PSF, noise)``.

    Load one with `astroflow.load_posterior`; parameters are on the last axis of every `theta`, in `parameters.names` order.
    """

    estimator: AnyEstimator
    parameters: Parameters
    stamp: StampSpec
    familiarity: Familiarity
    linearized: LinearizedStage | None = None
    """Sharpens bright rows, where it was trained."""
    forward_model: dict[str, Any] = field(default_factory=dict)
    """The resolved forward-model recipe it was trained on."""
    digest: str = ""
    """The bundle's identity, empty before it is saved."""
    training: dict[str, Any] = field(default_factory=dict)
    """How it was trained."""
    noise_correlation: Array | None = None
    """``(L, L)`` correlation of native pixels' noise in training, which stamps that state none are taken to have; None: independent."""

    def encode(self, stamps: Stamps | Sequence[Cutout], least_snr: float | None = None, *, halved: bool = False) -> Encoded:
        """Frame and encode stamps or cutouts, once.

        Parameters
        ----------
        stamps : Stamps or sequence of Cutout
            The observations.
        least_snr : float, optional
            Estimated S/N from which rows are fitted for the linearised posterior; the bundle's own choice unless given, infinite for none.
        halved : bool
            Round contexts to half precision, as catalogs keep them (`Kept`), before anything is made of them.

        Raises
        ------
        InputError
            If the pixel scale or the number of bands contradicts the bundle. Bad pixels, PSFs and noise become flags.
        """
        framed = frame(stamps, self.stamp, self.noise_correlation)
        context, extra = self._encode(framed.stamps)
        snr = np.exp(extra["log_snr"].astype(np.float64))
        flags = framed.flags | np.where(framed.usable, self.familiarity.flags(framed.stamps, context, framed.measured_psfs), 0)
        flags |= np.where(framed.usable, unfamiliar_correlation(framed.stamps, self.noise_correlation), 0)
        flags |= np.where(framed.usable & (snr < LOW_SNR), int(Flag.LOW_SNR), 0)
        context = rounded(context) if halved else context
        fits, fitted = self._fit(framed, context, snr, least_snr)
        return Encoded(
            framed=framed, context=context, snr=np.where(framed.usable, snr, np.nan), flags=flags, fitted=fitted, fits=fits,
            disagreement=self._disagreement(framed, context),
        )  # fmt: skip

    def _encode(self, stamps: Stamps) -> tuple[Array, dict[str, Array]]:
        """Encode framed stamps batch by batch, so that inputs of thousands of them are never in memory at once."""
        starts = range(0, max(len(stamps), 1), BATCH)
        contexts, extras = zip(*(self.estimator.encode(network_inputs(stamps[i : i + BATCH])) for i in starts), strict=True)
        return np.concatenate(contexts), {name: np.concatenate([extra[name] for extra in extras]) for name in extras[0]}

    def _disagreement(self, framed: Framed, context: Array) -> Array | None:
        """Return how much the members of an ensemble contradict each other; its draws are the same whatever the seed of others."""
        if not isinstance(self.estimator, Ensemble):
            return None
        members = self.estimator.size
        draws = -(-COMPARED // members) * members
        noise = standard_normals(0, "disagreement", framed.stamps.ids, (draws, len(self.parameters)))
        return np.where(framed.usable, self.estimator.disagreement(context, noise), np.nan)

    def fitted_rows(self, encoded: Encoded, rows: Array) -> Encoded:
        """Return some rows, given by their positions, with the linearised posterior where the fit converges."""
        chosen = encoded[rows]
        fits, fitted = self._fit(chosen.framed, chosen.context, chosen.snr, 0.0)
        return replace(chosen, fits=fits, fitted=fitted)

    def _fit(self, framed: Framed, context: Array, snr: Array, least_snr: float | None) -> tuple[Linearization | None, Array]:
        """Fit the rows that ask for it; those whose fit fails keep the network's own posterior."""
        if self.linearized is None:
            return None, np.zeros(len(context), bool)
        wanted = framed.usable & (snr >= (self.linearized.recipe.least_snr if least_snr is None else least_snr))
        rows = np.flatnonzero(wanted)
        if not len(rows):
            return None, wanted
        fits = self.linearized.fit(context[rows], self.estimator.guess(context[rows]), framed.stamps[rows])
        wanted[rows[~fits.converged]] = False
        return (fits[fits.converged] if fits.converged.any() else None), wanted

    def sample(self, stamps: Stamps | Sequence[Cutout] | Encoded | Kept, n_draws: int = 1000, seed: int = 0) -> Array:
        """Draw from the posterior of each stamp.

        Parameters
        ----------
        stamps : Stamps, sequence of Cutout, Encoded, or Kept
            The observations, or what has been kept of them.
        n_draws : int
            Draws per object, S.
        seed : int
            With an object's id it fixes that object's draws, whatever else is in the batch.

        Returns
        -------
        ndarray
            ``(N, S, P)`` float32 in physical units; NaN for rows that cannot be used.
        """
        if n_draws < 1:
            raise InputError(f"`n_draws` must be at least 1; got {n_draws}")
        encoded = stamps if isinstance(stamps, Kept) else self._encoded(stamps)
        return self.unframed(self.frame_draws(encoded, n_draws, seed), encoded)

    def unframed(self, theta: Array, encoded: Encoded | Kept) -> Array:
        """Return parameters ``(N, S, P)`` of the frame with offsets counted from the requested position; NaN for unusable rows."""
        theta = theta.astype(np.float32)
        theta[..., self._offsets] += encoded.shift_arcsec[:, None, : len(self._offsets)].astype(np.float32)
        theta[~encoded.usable] = np.nan
        return theta

    def frame_draws(self, encoded: Encoded | Kept, n_draws: int, seed: int) -> Array:
        """Draw as `sample` does, with offsets counted from the frame's centre and nothing blanked."""
        noise = standard_normals(seed, "posterior", encoded.ids, (n_draws, len(self.parameters)))
        plain, draws = ~encoded.fitted, np.empty(noise.shape, np.float32)
        draws[plain] = self.estimator.sample(encoded.context[plain], noise[plain])
        if self.linearized is not None and encoded.fits is not None:
            fitted = encoded.fitted
            draws[fitted] = self.linearized.sample(encoded.fits, noise[fitted])
            self._mix_in(draws, noise, encoded, self.linearized.share(encoded.fits), seed)
        return draws

    def _mix_in(self, draws: Array, noise: Array, encoded: Encoded | Kept, share: Array, seed: int) -> None:
        """Put draws of the network's own ``(N, S, P)`` among those of fitted rows, as many as their `share` says, in place."""
        rows = np.flatnonzero(encoded.fitted)
        chance = standard_normals(seed, "share", encoded.ids[rows], noise.shape[1:2])
        own = special.ndtr(chance) < share[:, None]
        # they are few, so only as many are drawn as the row with the most wants; which is where in a row depends on that row alone.
        # By their own base normals they are of all members of an ensemble alike, wherever in the row they go
        places = np.argsort(~own, axis=1, kind="stable")[:, : max(own.sum(1).max(), 1)]
        drawn = self.estimator.sample(encoded.context[rows], noise[rows[:, None], places])
        wanted = np.take_along_axis(own, places, 1)
        which = np.broadcast_to(rows[:, None], places.shape)
        draws[which[wanted], places[wanted]] = drawn[wanted]

    def log_prob(self, theta: Array, stamps: Stamps | Sequence[Cutout] | Encoded) -> Array:
        """Return the log posterior density of parameters, per physical unit.

        Parameters
        ----------
        theta : ndarray
            ``(N, S, P)``, or ``(N, P)`` for one point each.
        stamps : Stamps, sequence of Cutout, or Encoded
            N objects.

        Returns
        -------
        ndarray
            ``(N, S)`` or ``(N,)`` float32: minus infinity outside the prior's bounds, NaN for rows that cannot be used.

        Raises
        ------
        InputError
            If shapes disagree, or the stamps are not what the network takes.
        """
        encoded = self._encoded(stamps)
        theta = np.asarray(theta, np.float32)
        single = theta.ndim == 2
        values = theta[:, None] if single else theta
        if values.shape[0] != len(encoded) or values.shape[-1] != len(self.parameters):
            raise InputError(f"`theta` must be ({len(encoded)}, draws, {len(self.parameters)}); got {theta.shape}")
        values = values.copy()
        values[..., self._offsets] -= encoded.framed.shift_arcsec[:, None, : len(self._offsets)].astype(np.float32)
        out = self.frame_log_prob(values, encoded)
        out[~encoded.framed.usable] = np.nan
        return out[:, 0] if single else out

    def frame_log_prob(self, theta: Array, encoded: Encoded) -> Array:
        """Return the log density ``(N, S)`` of `theta` ``(N, S, P)`` whose offsets count from the frame's centre."""
        inside = self.parameters.prior.contains(theta.astype(np.float64))
        safe = np.where(inside[..., None], theta, self._typical)
        out = self.estimator.log_prob(safe, encoded.context)
        if self.linearized is not None and encoded.fits is not None:
            fitted, share = encoded.fitted, self.linearized.share(encoded.fits)[:, None]
            out[fitted] = log_mixture(share, out[fitted], self.linearized.log_prob(safe[fitted], encoded.fits))
        return np.where(inside, out, -np.inf)

    def certify(self, stamps: Stamps | Sequence[Cutout] | Encoded, n_draws: int = 256, seed: int = 0) -> Certificate:
        """Weigh draws by the exact likelihood, and look at the residual: two verdicts for each row.

        Parameters
        ----------
        stamps : Stamps, sequence of Cutout, or Encoded
            The observations.
        n_draws : int
            Draws per object; fewer than 256 cannot pass.
        seed : int
            As of `sample`, whose draws are weighed.

        Returns
        -------
        Certificate
            Not applicable where rows are unusable or came binned, or where `likelihood_gaps` of the forward model are not empty.

        Raises
        ------
        InputError
            If `n_draws` is below 16, too few to say anything.
        """
        from astroflow.posteriors.exact.certify import certify

        if n_draws < 16:
            raise InputError(f"`n_draws` must be at least 16 to weigh draws; got {n_draws}")
        return certify(self, self._encoded(stamps), n_draws, seed)

    def sharpen(self, encoded: Encoded, certificate: Certificate, n_draws: int = 256, seed: int = 0) -> tuple[Encoded, Certificate]:
        """Give rows whose draws failed their certificate the linearised posterior, if they have the network's own and it is better.

        With `least_snr` in the recipe, or in `encode`, most rows cost as little as the network does, and those that need more get it.

        Parameters
        ----------
        encoded : Encoded
            The observations.
        certificate : Certificate
            Of `certify`, with as many draws and the same seed.
        n_draws : int
            Draws per object that the new certificates weigh.
        seed : int
            As of `sample`.

        Returns
        -------
        encoded : Encoded
            With more rows fitted: draws of it are from the posteriors that were certified.
        certificate : Certificate
            With the figures of those rows anew.
        """
        from astroflow.posteriors.exact.tiers import sharpen

        return sharpen(self, encoded, certificate, n_draws, seed)

    def refine(
        self,
        stamps: Stamps | Sequence[Cutout] | Encoded,
        n_draws: int = 256,
        seed: int = 0,
        budget: int = 20_000,
        where: Array | None = None,
    ) -> "Refinement":
        """Turn amortized posteriors into exact ones, by weighing draws and adapting where they come from.

        Parameters
        ----------
        stamps : Stamps, sequence of Cutout, or Encoded
            The observations.
        n_draws : int
            Draws per object, S; distinct and of equal weight.
        seed : int
            With an object's id it fixes the outcome.
        budget : int
            Most evaluations of the likelihood per object, each a fraction of a millisecond.
        where : ndarray, optional
            ``(N,)`` boolean: which rows to refine; all unless given. The others keep their amortized draws, as not applicable.

        Returns
        -------
        Refinement
            Rows that are unusable or came binned keep their amortized draws, and say that refining is not applicable.

        Raises
        ------
        ConfigError
            If the forward model does what its likelihood does not follow (`likelihood_gaps`): refined error bars would be too small.
        InputError
            If `n_draws` is below 1, `budget` too small for a look and a choice, or `where` of another kind or shape.
        """
        from astroflow.posteriors.exact.certify import applicable
        from astroflow.posteriors.exact.refine import least_budget, refine

        gaps = likelihood_gaps(self.forward_model)
        if gaps:
            raise ConfigError(f"cannot refine: the likelihood does not follow {'; '.join(gaps)}, so refined error bars would be too small")
        if n_draws < 1 or budget < least_budget(n_draws):
            raise InputError(f"`n_draws` must be at least 1 and `budget` {least_budget(max(n_draws, 1))}; got {n_draws} and {budget}")
        encoded = self._encoded(stamps)
        wanted = np.ones(len(encoded), bool) if where is None else np.asarray(where)
        if wanted.dtype != bool or wanted.shape != (len(encoded),):
            raise InputError(f"`where` must be ({len(encoded)},) true or false; got {wanted.dtype} of shape {wanted.shape}")
        return refine(self, encoded, np.flatnonzero(applicable(self, encoded) & wanted), n_draws, seed, budget)

    def reweight(self, draws: Array, new_prior: JointPrior | Mapping[str, Any], ids: Sequence[Any] | Array | None = None) -> Reweighted:
        """Weigh draws of this posterior for another prior, without looking at an image again.

        Parameters
        ----------
        draws : ndarray
            ``(N, S, P)`` draws in physical units, of `sample` or `refine`, or read from a catalog.
        new_prior : JointPrior or mapping
            The whole prior, or those entries of the forward model's `galaxy` that change, as in its recipe:
            ``{"n": {"kind": "uniform", "low": 0.5, "high": 6.0}}``. It should lie inside the old one: where the old one is zero there are
            no draws.
        ids : sequence, optional
            ``(N,)`` the objects' ids, so that resampling an object does not depend on its place; their places unless given.

        Returns
        -------
        Reweighted
            Weights, the effective share of the draws, and `Reweighted.resample`.

        Raises
        ------
        ConfigError
            If the new prior is over other parameters, or moves the centre.
        InputError
            If the draws have another shape.
        """
        if isinstance(new_prior, Mapping):
            changed = galaxy_from_data(self.forward_model | {"galaxy": self.forward_model.get("galaxy", {}) | dict(new_prior)})
            new_prior = changed.parameters.prior
        return reweight(self.parameters, draws, new_prior, ids)

    @cached_property
    def engine(self) -> FourierEngine:
        """The Fourier engine of the forward model's galaxy.

        Raises
        ------
        ConfigError
            If the engine cannot draw it.
        """
        galaxy = galaxy_from_data(self.forward_model)
        if not isinstance(galaxy, SersicSum):
            raise ConfigError(f"the Fourier engine draws sums of Sersic profiles; {type(galaxy).__name__} is none")
        return fourier_engine(galaxy, self.parameters.names)

    def summarize(self, stamps: Stamps | Sequence[Cutout] | Encoded, n_draws: int = 256, seed: int = 0) -> "Table":
        """Return one row per image: moments, quantiles, estimated S/N, flags.

        Parameters
        ----------
        stamps : Stamps, sequence of Cutout, or Encoded
            The objects.
        n_draws : int
            Draws of each posterior that are summarised.
        seed : int
            Of the draws, with the objects' ids.

        Returns
        -------
        astropy.table.Table
            Columns `id`, per parameter mean, sd and quantiles, covariances, `snr`, of ensembles `disagreement` (nats), `binning`, `flags`,
            `quality`, `note`.
        """
        from astropy.table import Column, Table

        encoded = self._encoded(stamps)
        draws = self.sample(encoded, n_draws, seed)
        columns, flags = self.summary_columns(encoded, draws)
        table = Table({"id": encoded.framed.stamps.ids})
        units = {p.name: p.unit for p in self.parameters.members}
        for name, values in columns.items():
            base = next((p for p in units if name.startswith(f"{p}_")), None)
            table[name] = Column(values, unit=units[base] if base and units[base] else None)
        table["snr"] = encoded.snr
        if encoded.disagreement is not None:
            table["disagreement"] = encoded.disagreement
        table["binning"] = encoded.framed.stamps.binning
        table["flags"] = flags
        table["quality"] = quality(flags)
        table["note"] = encoded.framed.notes
        table.meta["bundle"] = self.digest
        return table

    def summary_columns(self, encoded: Encoded, draws: Array) -> tuple[dict[str, Array], Array]:
        """Return the summary columns of draws, and the flags with `AT_BOUND` added."""
        usable = encoded.framed.usable
        columns = summarize_draws(draws, self.parameters)
        binning = np.asarray(encoded.framed.stamps.binning)
        centred = draws.copy()
        centred[..., self._offsets] -= encoded.framed.shift_arcsec[:, None, : len(self._offsets)].astype(np.float32)
        lean = leans_on_bound(np.where(usable[:, None, None], centred, self._typical), binning, self.parameters, self.stamp)
        return columns, encoded.flags | np.where(lean & usable, int(Flag.AT_BOUND), 0)

    @cached_property
    def _offsets(self) -> list[int]:
        """Positions of the centre's offsets (x, y) on the last axis."""
        pairs = {p.component: i for i, p in enumerate(self.parameters.members) if p.spin == 1}
        return [pairs[c] for c in sorted(pairs)]

    @cached_property
    def _typical(self) -> Array:
        return self.parameters.prior.forward(np.zeros(len(self.parameters))).astype(np.float32)  # type: ignore[no-any-return]

    def _encoded(self, stamps: Stamps | Sequence[Cutout] | Encoded) -> Encoded:
        return stamps if isinstance(stamps, Encoded) else self.encode(stamps)
