"""Pipelines: simulate, train, validate, infer and query, from recipes, with Dask where there is something to share out.

One file per command. What they share:

- `tasks` holds what workers do: pure functions without Dask, one partition in, one file out;
- `clusters` opens the cluster that a user names, `scheduler` keeps a bounded number of tasks on it in flight; nobody else knows Dask;
- a catalog run is driven by `engine`, which knows nothing of what parts hold. `run_record` and `inputs` say what was asked of which files,
  `ledger` what is finished, `pieces` finds rows that kill processes, `conclusion` makes a catalog of all parts, `lock` and `journal` are what they say;
- `validation_*` and `page` are sections of the report of `validate`.
"""
