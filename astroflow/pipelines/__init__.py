"""Pipelines: simulate, train, validate, infer and query, from recipes, with Dask where there is something to share out.

One file per stage. `tasks` holds what workers do: pure functions without Dask, one partition in, one file out. `scheduler` is
the only place that knows Dask: it opens a cluster and keeps a bounded number of tasks in flight.
"""
