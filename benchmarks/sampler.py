"""Drawing from each kind of flow: our samplers against TensorFlow Probability's own bijectors, same weights, one run.

Autoregressive flows are compared with `tfb.MaskedAutoregressiveFlow`, coupling flows with `tfb.RationalQuadraticSpline` in the same steps.

Seven parameters, five layers of 64-64, context 32: the size used for galaxies. Both are compiled with XLA and may use every core:
TFP's large matrix products spread by themselves, ours is called as `Estimator` calls it, in parts side by side. Rounds alternate; the
median of their ratios is what counts. Processor time is printed too: it is what counts where each core has its own worker.
"""

import statistics
import time

from astroflow.networks.loading import import_tensorflow

import_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_probability import bijectors as tfb  # noqa: E402

from astroflow.networks.flow import ConditionalFlow  # noqa: E402
from astroflow.networks.flow_kinds import build_flow  # noqa: E402
from astroflow.networks.maf import ConditionalMAF  # noqa: E402
from astroflow.posteriors.batches import LANES  # noqa: E402

IMAGES, DRAWS, PARAMETERS, CONTEXT, ROUNDS = 64, 256, 7, 32, 15


SPLINE = {"bins": 8, "bound": 5.0}
KINDS: dict[str, dict[str, float]] = {"maf": {}, "spline_maf": SPLINE, "spline_coupling": SPLINE}


def reference(flow: ConditionalFlow, context: tf.Tensor) -> tfb.Bijector:
    """Return the flow as TensorFlow Probability has it."""
    if not isinstance(flow, ConditionalMAF):
        return flow.bijector(context)
    steps = []
    for conditioner in flow.conditioners:
        layer = tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x, f=conditioner: flow.transform.bijector(f(x, context)))
        steps += [layer, tfb.Permute(list(reversed(range(PARAMETERS))))]
    return tfb.Chain(steps[:-1])


def main() -> None:
    """Time every kind."""
    for kind, options in KINDS.items():
        print(f"-- {kind}")
        compare(build_flow(kind, dimensions=PARAMETERS, context=CONTEXT, seed=0, layers=5, hidden=(64, 64), **options))


def compare(flow: ConditionalFlow) -> None:
    """Time both and print draws per second and their ratio."""
    rng = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape).astype(np.float32))
    context = tf.constant(rng.standard_normal((IMAGES, 1, CONTEXT)), tf.float32)
    noise = tf.constant(rng.standard_normal((IMAGES, DRAWS, PARAMETERS)), tf.float32)

    @tf.function(jit_compile=True)
    def theirs(u: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        return reference(flow, c).forward(u)

    @tf.function(jit_compile=True)
    def lane(u: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        return flow.draw(u, c[:, 0])

    @tf.function
    def ours(u: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        return tf.concat([lane(*part) for part in zip(tf.split(u, LANES), tf.split(c, LANES), strict=True)], 0)

    a, b = theirs(noise, context).numpy(), ours(noise, context).numpy()
    print(f"largest difference of the draws: {np.abs(a - b).max() / np.abs(a).max():.1e} of the largest")
    seconds: dict[str, list[float]] = {"TFP": [], "astroflow": []}
    processor: dict[str, list[float]] = {"TFP": [], "astroflow": []}
    for _ in range(ROUNDS):
        for name, function in (("TFP", theirs), ("astroflow", ours)):
            begin, begin_processor = time.perf_counter(), time.process_time()
            function(noise, context).numpy()
            seconds[name].append(time.perf_counter() - begin)
            processor[name].append(time.process_time() - begin_processor)
    for name, values in seconds.items():
        print(f"{name:10s} {IMAGES * DRAWS / statistics.median(values) / 1e3:8.0f} thousand draws/s")
    for what, values in (("ratio", seconds), ("processor", processor)):
        ratios = [t / o for t, o in zip(values["TFP"], values["astroflow"], strict=True)]
        print(f"{what:10s} {statistics.median(ratios):8.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
