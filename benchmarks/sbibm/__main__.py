"""Run the benchmark, or what is left of it, and print its tables.

    python -m benchmarks.sbibm                                  # everything; hours of one core
    python -m benchmarks.sbibm --budgets 1000 --tasks two_moons # a part
    python -m benchmarks.sbibm --table                          # the tables of what is there

Without `--estimators` the recommended one is run with every number of simulations, then the others with the largest.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.jsonl import append, read
from benchmarks.sbibm.published import BUDGETS, NPE
from benchmarks.sbibm.run import FLOWS, RECOMMENDED, Cell, measure, missing
from benchmarks.sbibm.table import OBSERVATIONS, everything, mixed
from benchmarks.sbibm.tasks import tasks
from benchmarks.sbibm.wheel import FILE, Wheel, WheelError, fetched

HERE = Path(__file__).parent


def plan(names: Sequence[str], budgets: Sequence[int], estimators: Sequence[str] | None) -> list[Cell]:
    """Return the cells to run, the most telling ones first."""
    most = sorted(budgets, reverse=True)
    pairs = [(budget, estimator) for estimator in estimators or [RECOMMENDED] for budget in most]
    if estimators is None and BUDGETS[-1] in budgets:
        pairs += [(BUDGETS[-1], estimator) for estimator in FLOWS if estimator != RECOMMENDED]
    return [Cell(task, budget, estimator) for budget, estimator in pairs for task in names]


def arguments_of(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sbibm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=NPE, default=list(NPE))
    parser.add_argument("--budgets", nargs="+", type=int, choices=BUDGETS, default=list(BUDGETS), help="numbers of simulations")
    parser.add_argument("--estimators", nargs="+", choices=FLOWS)
    parser.add_argument("--observations", nargs="+", type=int, choices=range(1, 11), default=list(OBSERVATIONS), metavar="1-10")
    parser.add_argument("--wheel", type=Path, default=Path("runs/sbibm") / FILE, help="sbibm's wheel; fetched if it is not there")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--table", action="store_true", help="run nothing, print the tables")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = arguments_of(words)
    if not given.table:
        try:
            wheel = Wheel(fetched(given.wheel))
        except WheelError as error:
            raise SystemExit(str(error)) from None
        problems = tasks(wheel.design)
        for cell in plan(given.tasks, given.budgets, given.estimators):
            numbers = missing(cell, given.observations, read(given.results))
            if numbers:
                print(f"{cell.task}, {cell.simulations} simulations, {cell.estimator}: observations {numbers}", file=sys.stderr, flush=True)
                for line in measure(cell, problems[cell.task], numbers, wheel):
                    append(given.results, line)
                    print(f"  {line}", file=sys.stderr, flush=True)
    results = read(given.results)
    for cell in mixed(results):
        print(f"warning: {cell} has observations of different settings or packages", file=sys.stderr)
    print(everything(results))


if __name__ == "__main__":
    main()
