"""A joint prior as the target bijector of an estimator."""

__all__ = ["prior_bijector"]

from typing import Any

from astroflow.sims.distributions import tensorflow_ops
from astroflow.sims.priors import JointPrior


def prior_bijector(prior: JointPrior) -> Any:
    """Return the TFP bijector from standard normals ``(..., P)`` to parameters ``(..., P)``."""
    from tensorflow_probability import bijectors as tfb

    class PriorBijector(tfb.Bijector):
        """Standard normals to parameters of the prior."""

        def __init__(self) -> None:
            super().__init__(forward_min_event_ndims=1, parameters={}, name="prior")

        def _forward(self, u: Any) -> Any:
            return prior.forward(u, tensorflow_ops())

        def _inverse(self, theta: Any) -> Any:
            return prior.inverse(theta, tensorflow_ops())

        def _forward_log_det_jacobian(self, u: Any) -> Any:
            return prior.log_det_forward(u, prior.forward(u, tensorflow_ops()), tensorflow_ops())

        def _inverse_log_det_jacobian(self, theta: Any) -> Any:
            return -prior.log_det_forward(prior.inverse(theta, tensorflow_ops()), theta, tensorflow_ops())

    return PriorBijector()
