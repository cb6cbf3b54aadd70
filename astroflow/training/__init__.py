"""Training: stored simulations in, a trained posterior out.

`training_set` keeps noiseless simulations on disk, `feed` turns them into fresh noisy batches, `loop` fits an estimator with full
checkpoints, `fit` ties them to a simulator, and `general` offers the same for any arrays (`train_estimator`).
"""
