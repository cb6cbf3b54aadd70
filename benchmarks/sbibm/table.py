"""The results as tables of markdown, beside what others have published. Cells that were not measured say so."""

from collections.abc import Sequence

import numpy as np

from benchmarks.sbibm.published import BUDGETS, NPE, beside
from benchmarks.sbibm.run import FLOWS, RECOMMENDED, digest_in

OBSERVATIONS = (1, 2, 3, 4, 5)
NOT_RUN = "not yet run"


def lines_of(results: Sequence[dict], task: str, budget: int, estimator: str) -> list[dict]:
    """Return the lines of one cell, the last one of each of observations 1 to 5."""
    wanted = {"task": task, "simulations": budget, "estimator": estimator}
    last = {line["observation"]: line for line in results if wanted.items() <= line.items()}
    return [last[number] for number in OBSERVATIONS if number in last]


def mixed(results: Sequence[dict]) -> list[str]:
    """Return the cells whose lines are of more than one kind of settings and packages, in words."""
    cells = sorted({(line["task"], line["simulations"], line["estimator"]) for line in results})
    found = [cell for cell in cells if len({digest_in(line) for line in lines_of(results, *cell)}) > 1]
    return [f"{task}, {budget} simulations, {estimator}" for task, budget, estimator in found]


def c2st_cell(lines: Sequence[dict]) -> str:
    """Return the mean over observations, and how many there are if not all."""
    if not lines:
        return NOT_RUN
    mean = f"{np.mean([line['c2st'] for line in lines]):.3f}"
    mean += "" if len({digest_in(line) for line in lines}) == 1 else " (settings differ)"
    return mean if len(lines) == len(OBSERVATIONS) else f"{mean} ({len(lines)} of {len(OBSERVATIONS)})"


def mean_cell(lines: Sequence[dict], key: str, form: str) -> str:
    """Return the mean of what lines that have it say."""
    values = [line[key] for line in lines if key in line]
    return format(np.mean(values), form) if values else NOT_RUN


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]) + "\n"


def against_others(results: Sequence[dict], budget: int) -> str:
    """Return the recommended estimator's table for one number of simulations."""
    header = ["task", "astroflow", "NPE (NSF)", "NPE-MAF", "best modern", "training, s", "10,000 draws, s"]
    rows = []
    for task in NPE:
        lines = lines_of(results, task, budget, RECOMMENDED)
        costs = [mean_cell(lines, "training_cpu_seconds", ".0f"), mean_cell(lines, "cpu_seconds_per_10000_draws", ".2f")]
        rows.append([task, c2st_cell(lines), *beside(task, budget), *costs])
    return markdown(header, rows)


def kinds(results: Sequence[dict]) -> str:
    """Return the table of all estimators at the largest number of simulations: C2ST, log score in nats, seconds of CPU of training."""
    rows = []
    for task in NPE:
        cells = []
        for estimator in FLOWS:
            lines = lines_of(results, task, BUDGETS[-1], estimator)
            score, seconds = mean_cell(lines, "log_score", ".2f"), mean_cell(lines, "training_cpu_seconds", ".0f")
            cells.append(f"{c2st_cell(lines)}; {score}; {seconds} s" if lines else NOT_RUN)
        rows.append([task, *cells])
    return markdown(["task", *FLOWS], rows)


def everything(results: Sequence[dict]) -> str:
    """Return all tables, most simulations first."""
    parts = [f"{budget:,} simulations:\n\n{against_others(results, budget)}" for budget in reversed(BUDGETS)]
    return "\n".join(
        [*parts, f"Kinds of conditional distribution, {BUDGETS[-1]:,} simulations (C2ST; log score in nats; training):\n\n{kinds(results)}"]
    )
