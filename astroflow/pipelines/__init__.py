"""Pipelines: simulate, train, validate, infer and query, from recipes, with Dask where there is something to share out.

One file per command. `tasks` holds what workers do: pure functions without Dask, one partition in, one file out. `clusters` opens the
cluster that a user names, and `scheduler` keeps a bounded number of tasks on it in flight; nobody else knows Dask. What drives a
catalog run is in `catalog_run`, what makes the report of a validation in `validation`.
"""
