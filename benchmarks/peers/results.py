"""Files of fits: one line of JSON each (`benchmarks.jsonl`). Plain NumPy: all environments import it.

A line names the galaxy and the method, the estimate of the compared quantities (NaN where the method has no answer), the errors claimed
(none at all, or NaN for a quantity without), and seconds.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks import jsonl


def read(paths: Iterable[Path]) -> dict[str, dict[int, dict]]:
    """Return the lines of each method, by galaxy."""
    found: dict[str, dict[int, dict]] = defaultdict(dict)
    for path in paths:
        for line in jsonl.read(path):
            found[line["method"]][line["galaxy"]] = line
    return dict(found)


def left_to_do(path: Path, method: str, bins: np.ndarray, most: int) -> list[int]:
    """Return galaxies that `path` lacks, in turn from each bin and at most so many of each: wherever a run ends, bins are equally full."""
    done = read([path]).get(method, {})
    turn = ((place, i) for k in np.unique(bins) for place, i in enumerate(np.flatnonzero(bins == k)[:most].tolist()))
    return [i for _, i in sorted(turn) if i not in done]
