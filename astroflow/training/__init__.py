"""Training: simulations in, a trained posterior out.

`fresh` draws new galaxies for every batch, or `training_set` keeps noiseless ones on disk and `feed` turns them into noisy batches;
`together` makes batches on all cores. `loop` fits an estimator with full checkpoints, `polish` its flow alone, `linearize` the
linearised stage; `fit` ties them to a simulator, and `general` offers the same for any arrays (`train_estimator`).
"""
