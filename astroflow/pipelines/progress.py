"""Progress on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

__all__ = ["reporter"]

import contextlib
import sys
import time
from collections.abc import Iterator

from astroflow.types import Progress

LINE_SECONDS = 15.0


@contextlib.contextmanager
def reporter(label: str, unit: str) -> Iterator[Progress]:
    """Yield a progress callback ``(stage, done, total, figures)`` that draws to stderr.

    Parameters
    ----------
    label : str
        What is under way.
    unit : str
        What is counted: ``"images"``, ``"steps"``.
    """
    if sys.stderr.isatty():
        with _bar(label, unit) as callback:
            yield callback
        return
    begin, state = time.monotonic(), {"last": time.monotonic(), "first": -1.0}

    def line(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
        now = time.monotonic()
        if state["first"] < 0:
            state["first"] = done - 1 if done else 0
        if now - state["last"] < LINE_SECONDS and done < total:
            return
        state["last"] = now
        rate = (done - state["first"]) / max(now - begin, 1e-9)
        left = (total - done) / rate if rate > 0 else 0.0
        extra = "".join(f", {name} {value:.4g}" for name, value in figures.items())
        print(f"{label}: {done}/{total} {unit}, {rate:.0f} {unit}/s, {left:.0f} s left{extra}", file=sys.stderr, flush=True)

    yield line


@contextlib.contextmanager
def _bar(label: str, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bar, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[extra]}"), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, extra="")
        begin = time.monotonic()
        first: list[int] = []

        def update(stage: str, done: int, total: int, figures: dict[str, float]) -> None:
            if not first:
                first.append(done)
            rate = (done - first[0]) / max(time.monotonic() - begin, 1e-9)
            extra = f"{rate:.0f} {unit}/s" + "".join(f"  {name} {value:.4g}" for name, value in figures.items())
            bar.update(task, completed=done, total=total, extra=extra)

        yield update
