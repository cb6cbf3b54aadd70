"""Posteriors: from stamps to draws, densities, summary tables and flags.

Start with `load_posterior` and `Posterior`. `estimator` joins networks and flow for any arrays; `framing` brings cutouts of every size
to the network's; `nuts` samples the exact posterior of a few galaxies, from `starts`; `inputs` is what the network sees;
`familiarity` and `flags` say how far a row can be trusted; `bundle` keeps it all on disk.
"""

from astroflow.posteriors.flags import Flag as Flag

__all__ = ["Flag"]
