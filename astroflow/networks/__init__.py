"""Networks: arrays to context vectors, context vectors to distributions. No astronomy here.

`summary` holds the networks that compress arrays (`SummaryNetwork`), `targets` the bijectors between a flow's real line and bounded
parameters. Flows all have one interface, `flow.ConditionalFlow`, and are made by name (`flow_kinds.build_flow`). A flow is a stack of
layers, autoregressive (`maf`) or coupling (`coupling`); in each a network (`conditioner`, with masks in `masked`) chooses the
parameters of an elementwise transform, affine (`elementwise`) or a rational-quadratic spline (`spline`). One family per file; all are
Keras 3 layers, given to TensorFlow Probability through its bijectors.
"""
