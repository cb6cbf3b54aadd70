"""What the exact pixel likelihood makes of posteriors: it judges them, repairs them, and replaces them.

`density` is the exact posterior as a function of parameters. `certify` weighs amortized draws by it, and `certificate` keeps the two
verdicts: are the draws right, can the model be? The second looks at the best fit (`optimum`) and its residual (`residuals`), and at
many galaxies together (`population`). `refine` turns draws that failed into exact ones, from adapted proposals (`mixture`) by
`resampling`. `reweight` changes the prior. `nuts` samples the exact posterior of a few galaxies, from dispersed `starts`, on the
prior's scale (`prior_target`).
"""
