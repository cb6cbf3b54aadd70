"""Posteriors: from stamps to draws, densities, summary tables and flags.

Start with `load_posterior` and `Posterior`. `framing` brings cutouts of every size to the network's (`apparent_size` chooses the
binning, `framed_psfs` sees to the PSFs), and `inputs` is what the network sees of them. `estimator` joins networks and flow for any
arrays; `linearized` sharpens its answer by a fit, and `gate` mixes the two. `familiarity` and `flags` say how far a row can be trusted;
`encoded` is what lies between looking and drawing, `bundle` keeps it all on disk. The room `exact` holds what the pixel likelihood makes of
all this: certificates, refining, NUTS.
"""

from astroflow.posteriors.flags import Flag as Flag

__all__ = ["Flag"]
