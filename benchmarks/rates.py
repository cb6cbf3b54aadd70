"""Galaxies per second of a bundle, stamps in and draws out: the network's own posterior, the linearised one, certificates and refining.

Takes a bundle of the reference problem, unless told otherwise the checkout's own. The first two run in as many processes
of one thread as there are cores, as `astroflow infer` does, all at the same time; everything but reading images is counted.
Certificates and refining run in one process with all cores.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

DRAWS = 64
GALAXIES = 2048
REPEATS = 5
CERTIFIED = 96
SEED = 40_000


def prepared(bundle: str, n: int):
    """Return a posterior and stamps of new galaxies of its forward model."""
    from astroflow.networks.loading import import_tensorflow

    import_tensorflow()
    import numpy as np

    from astroflow.posteriors.bundle import load_posterior
    from astroflow.sims.recipe import simulator_from_data

    posterior = load_posterior(bundle)
    simulator = simulator_from_data(posterior.forward_model)
    rng = np.random.default_rng(SEED)
    return posterior, simulator.observe(simulator.draw_block(rng, n), rng).stamps


def worker(bundle: str, least_snr: float, start, answers) -> None:
    """Time posteriors in a process of one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from astroflow.pipelines.tasks import prepare_worker
    from astroflow.posteriors.bundle import bundle_digest
    from astroflow.provenance import deciding_versions

    prepare_worker(bundle, bundle_digest(bundle), deciding_versions())
    posterior, stamps = prepared(bundle, GALAXIES)

    def once() -> None:
        posterior.sample(posterior.encode(stamps, least_snr=least_snr), DRAWS)

    once()
    start.wait()
    begin = time.perf_counter()
    for _ in range(REPEATS):
        once()
    answers.put(REPEATS * GALAXIES / (time.perf_counter() - begin))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, default=Path("benchmarks/reference_bundle"))
    bundle = str(parser.parse_args().bundle)
    processes = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    for name, least_snr in (("network", float("inf")), ("linearised", 0.0)):
        start, answers = processes.Barrier(cores), processes.Queue()
        running = [processes.Process(target=worker, args=(bundle, least_snr, start, answers)) for _ in range(cores)]
        for process in running:
            process.start()
        rates = [answers.get() for _ in running]
        for process in running:
            process.join()
        print(f"{name:12s} {sum(rates):7.0f} galaxies/s with {DRAWS} draws each, {cores} processes", flush=True)
    posterior, stamps = prepared(bundle, CERTIFIED)
    encoded = posterior.encode(stamps)
    for name, ask in (
        ("certify", lambda: posterior.certify(encoded, 256)),
        ("refine", lambda: posterior.refine(encoded, 256)),
    ):
        ask()
        begin = time.perf_counter()
        ask()
        print(f"{name:12s} {(time.perf_counter() - begin) / CERTIFIED:7.3f} s per galaxy with 256 draws, one process", flush=True)


if __name__ == "__main__":
    main()
