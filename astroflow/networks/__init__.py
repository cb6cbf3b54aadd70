"""Networks: arrays to context vectors, context vectors to distributions. No astronomy here.

`summary` holds the networks that compress arrays (`SummaryNetwork`), `maf` the conditional masked autoregressive flow with its
incremental sampler, `targets` the bijectors between a flow's real line and bounded parameters. One family per file; all are
Keras 3 layers, given to TensorFlow Probability through its bijectors.
"""
