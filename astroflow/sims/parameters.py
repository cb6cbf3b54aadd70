"""`Parameters`: an ordered set of named scalars with units, meanings and one joint prior."""

__all__ = ["Parameter", "Parameters"]

from functools import cached_property
from typing import Literal

import numpy as np
import pydantic

from astroflow.config import Recipe
from astroflow.sims.priors import JointPrior


class Parameter(Recipe):
    """What one number means."""

    name: str
    """Identifier, with its unit where it has one: `re_arcsec`."""
    unit: str = ""
    """Astropy unit string; empty for none."""
    description: str = ""
    """One sentence."""
    label: str = ""
    """How a plot writes it (may hold mathtext)."""
    ucd: str = ""
    """IVOA UCD1+ word, or empty where there is none."""
    spin: Literal[0, 1, 2] = 0
    """How it turns with the image: 0 not at all, 1 as a position, 2 as an ellipticity."""
    component: Literal[0, 1] = 0
    """Which component of the spin-1 or spin-2 pair it is."""


class Parameters(Recipe):
    """An ordered set of parameters and their joint prior.

    `theta` arrays hold them along the last axis, in the order of `names`, in physical units.
    """

    members: tuple[Parameter, ...]
    prior: JointPrior

    @pydantic.model_validator(mode="after")
    def _agree(self) -> "Parameters":
        if tuple(p.name for p in self.members) != self.prior.names:
            raise ValueError(f"parameters {[p.name for p in self.members]} and prior {list(self.prior.names)} differ")
        return self

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names, in the order of theta's last axis."""
        return self.prior.names

    @property
    def units(self) -> tuple[str, ...]:
        """Astropy unit strings, in the same order."""
        return tuple(p.unit for p in self.members)

    @property
    def labels(self) -> tuple[str, ...]:
        """Axis labels with units, in the same order."""
        return tuple(f"{p.label or p.name} [{p.unit}]" if p.unit else p.label or p.name for p in self.members)

    def index(self, name: str) -> int:
        """Return the position of a parameter on theta's last axis."""
        return self.names.index(name)

    def column(self, theta: np.ndarray, name: str) -> np.ndarray:
        """Return one parameter of `theta`."""
        return theta[..., self.index(name)]

    def pairs(self, spin: int) -> list[tuple[int, int]]:
        """Return the positions of the parameters that turn together, by first and second component: offsets, or each part's ellipticity."""
        first, second = ([i for i, p in enumerate(self.members) if p.spin == spin and p.component == c] for c in (0, 1))
        return list(zip(first, second, strict=False))

    def turned(self, theta: np.ndarray, turn: int) -> np.ndarray:
        """Return `theta` as it reads after the image is turned by `turn` (see `astroflow.sims.symmetry`)."""
        from astroflow.sims.symmetry import TURNS

        transpose, flip_x, flip_y = TURNS[turn]
        out = theta.copy()
        for first, second in self.pairs(1):
            a, b = theta[..., first], theta[..., second]
            a, b = (b, a) if transpose else (a, b)
            out[..., first], out[..., second] = (-a if flip_x else a), (-b if flip_y else b)
        for first, second in self.pairs(2):
            a, b = theta[..., first], theta[..., second]
            out[..., first] = -a if transpose else a
            out[..., second] = -b if flip_x != flip_y else b
        return out

    def prior_is_symmetric(self) -> bool:
        """Say whether the prior density is unchanged by every flip and quarter turn, so that turning images is fair."""
        theta = self.prior.forward(np.random.default_rng(0).normal(size=(64, len(self))))
        base = self.prior.log_prob(theta)
        return all(np.allclose(self.prior.log_prob(self.turned(theta, turn)), base, atol=1e-6) for turn in range(8))
