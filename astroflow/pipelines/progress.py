"""Progress on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

__all__ = ["reporter"]

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from astroflow.types import Progress

LINE_SECONDS = 15.0


@contextlib.contextmanager
def reporter(unit: str) -> Iterator[Progress]:
    """Yield a progress callback ``(stage, done, total, figures)`` that draws to stderr.

    Rates and the time left count from a stage's first call, so what a resumed run found done already does not flatter them.

    Parameters
    ----------
    unit : str
        What is counted: ``"images"``, ``"steps"``.
    """
    if sys.stderr.isatty():
        with _bar(unit) as callback:
            yield callback
        return
    first: dict[str, tuple[float, int]] = {}
    last: dict[str, float] = {}

    def line(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        now = time.monotonic()
        if stage not in first:
            first[stage], last[stage] = (now, done), now
            if done < total:
                return
        if now - last[stage] < LINE_SECONDS and done < total:
            return
        last[stage] = now
        print(
            f"{stage}: {done}/{total} {unit}{_pace(first[stage], now, done, total, unit)}{_figures(figures)}", file=sys.stderr, flush=True
        )

    yield line


@contextlib.contextmanager
def _bar(unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[extra]}"))
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}
        first: dict[str, tuple[float, int]] = {}

        def update(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
            now = time.monotonic()
            if stage not in first:
                first[stage], tasks[stage] = (now, done), bar.add_task(stage, total=None, extra="")
            extra = f"{unit}{_pace(first[stage], now, done, total, unit)}{_figures(figures)}"
            bar.update(tasks[stage], completed=done, total=total, extra=extra)

        yield update


def _pace(first: tuple[float, int], now: float, done: int, total: int, unit: str) -> str:
    """Say how fast it goes, and how long it will take; nothing before there is something to measure."""
    begin, there = first
    if done <= there or now <= begin:
        return ""
    rate = (done - there) / (now - begin)
    return f", {rate:.{0 if rate >= 10 else 1}f} {unit}/s, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _figures(figures: dict[str, float]) -> str:
    return "".join(f", {name} {value:.4g}" for name, value in figures.items())
