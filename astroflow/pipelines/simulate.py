"""`astroflow simulate`: a training set of noiseless galaxies, shard by shard, over Dask."""

__all__ = ["simulate"]

from pathlib import Path

from astroflow.errors import ConfigError
from astroflow.files import clear_stages
from astroflow.pipelines.clusters import cluster
from astroflow.pipelines.progress import reporter
from astroflow.pipelines.scheduler import bounded
from astroflow.pipelines.tasks import simulate_shard
from astroflow.provenance import provenance, write_json
from astroflow.sims.recipe import simulator_data, simulator_from_data
from astroflow.training.training_set import TrainingSet


def simulate(
    name: str | Path, *, n: int, out: Path, seed: int = 0, scheduler: str | None = None, workers: int | None = None
) -> TrainingSet:
    """Simulate `n` galaxies into ``out``; a run that was killed goes on where it stopped and ends with the same bytes.

    Parameters
    ----------
    name : str or Path
        Forward model, as for `load_simulator`.
    n : int
        How many galaxies.
    out : Path
        The training set's folder.
    seed : int
        Seeds every draw, together with the galaxy's number.
    scheduler, workers : optional
        See `clusters.load_cluster`.

    Raises
    ------
    ConfigError
        If the recipe is not valid or `n` is not positive.
    OutputError
        If the folder holds something else.
    """
    if n < 1:
        raise ConfigError(f"--n must be at least 1; got {n}")
    data = simulator_data(name)
    simulator = simulator_from_data(data)
    training_set = TrainingSet.create(out, n=n, seed=seed, recipe=data, parameters=simulator.parameters, stamp=simulator.stamp)
    missing = training_set.missing
    done = n - sum(len(training_set.rows(shard)) for shard in missing)
    if missing:
        with reporter("images") as progress, cluster(scheduler, workers) as client:
            progress("simulate", done, n, {})
            for finished in bounded(client, simulate_shard, ((str(out.resolve()), shard) for shard in missing)):
                done += finished
                progress("simulate", done, n, {})
    training_set.clear_stages()
    clear_stages(out)
    write_json(out / "provenance.json", provenance(data, seed))
    return training_set
