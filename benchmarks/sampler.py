"""Drawing from the flow: the incremental sampler against `tfb.MaskedAutoregressiveFlow`'s own forward, same weights, one run.

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

from astroflow.networks.maf import ConditionalMAF  # noqa: E402
from astroflow.posteriors.estimator import LANES  # noqa: E402

IMAGES, DRAWS, PARAMETERS, CONTEXT, ROUNDS = 64, 256, 7, 32, 15


def main() -> None:
    """Time both and print draws per second and their ratio."""
    rng = np.random.default_rng(0)
    flow = ConditionalMAF(PARAMETERS, CONTEXT, 5, (64, 64), seed=0)
    for variable in flow.trainable_variables:
        variable.assign_add(0.05 * rng.standard_normal(variable.shape).astype(np.float32))
    context = tf.constant(rng.standard_normal((IMAGES, 1, CONTEXT)), tf.float32)
    noise = tf.constant(rng.standard_normal((IMAGES, DRAWS, PARAMETERS)), tf.float32)
    reverse = tfb.Permute(list(reversed(range(PARAMETERS))))

    @tf.function(jit_compile=True)
    def theirs(u: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        steps = []
        for k, conditioner in enumerate(flow.conditioners):
            steps.append(tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=lambda x, layer=conditioner: layer(x, c)))
            if k < len(flow.conditioners) - 1:
                steps.append(reverse)
        return tfb.Chain(steps).forward(u)

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
