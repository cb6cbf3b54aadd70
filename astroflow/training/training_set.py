"""Training sets: noiseless simulations in a Zarr v3 group, one shard per task.

Each array is cut into shards of whole simulations. A shard is written under a temporary name on the same disk, flushed, and renamed
into place, so a file under its final name is complete; which shards exist is all the state that a resumed run needs. Codec and
content are deterministic: the same recipe, seed and size give the same bytes, whoever wrote which shard, and when.
"""

__all__ = ["TrainingSet"]

import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from astroflow.errors import IncompleteError, InputError, OutputError
from astroflow.sims.parameters import Parameters
from astroflow.sims.stamp import StampSpec
from astroflow.types import Array, Noiseless

SHARD = 512
CHUNK = 64
FORMAT = "astroflow-training-set-1"


@dataclass(frozen=True)
class TrainingSet:
    """A training set on disk. `create` it, `write` its shards in any order and place, then `read` from it.

    `n` simulations of ids 0 .. n-1, drawn with `seed` from the forward model `recipe` (plain data).
    """

    path: Path
    n: int
    seed: int
    recipe: dict[str, Any]

    @classmethod
    def create(cls, path: Path, *, n: int, seed: int, recipe: Mapping[str, Any], parameters: Parameters, stamp: StampSpec) -> "TrainingSet":
        """Create an empty training set, or open the same one to resume it.

        Raises
        ------
        OutputError
            If the folder holds anything else.
        """
        made = cls(path, n, seed, json.loads(json.dumps(recipe)))
        if path.is_file() or (path.exists() and any(path.iterdir())):
            try:
                found = cls.open(path)
            except InputError as error:
                raise OutputError(f"{path} is not empty and holds no training set of this version; give another --out") from error
            if (found.n, found.seed, found.recipe) != (made.n, made.seed, made.recipe):
                changed = [k for k in ("n", "seed", "recipe") if getattr(found, k) != getattr(made, k)]
                raise OutputError(f"{path} holds another training set ({', '.join(changed)} differ); give another --out, or remove it")
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        stage = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        made._create_arrays(stage, parameters, stamp)
        path.mkdir(exist_ok=True)
        os.replace(stage, path)
        return made

    @classmethod
    def open(cls, path: Path) -> "TrainingSet":
        """Open a training set.

        Raises
        ------
        InputError
            If there is none.
        """
        try:
            attributes = dict(zarr.open_group(str(path), mode="r").attrs)
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise InputError(f"no training set at {path}: make one with `astroflow simulate ... --out {path}`") from error
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path} is not a training set of this version (format {attributes.get('format')!r}, expected {FORMAT!r})")
        return cls(Path(path), int(attributes["n"]), int(attributes["seed"]), attributes["recipe"])  # type: ignore[arg-type]

    def _create_arrays(self, root: Path, parameters: Parameters | None = None, stamp: StampSpec | None = None) -> None:
        if parameters is not None and stamp is not None:
            rows = {
                "theta": ((len(parameters),), "float32"),
                "psf": ((1, stamp.psf_size, stamp.psf_size), "float32"),
                "images": ((1, stamp.size, stamp.size), "float32"),
                "binning": ((), "int64"),
                "ids": ((), "int64"),
            }
        else:
            group = zarr.open_group(str(self.path), mode="r")
            rows = {name: (group[name].shape[1:], str(group[name].dtype)) for name in ARRAYS}  # type: ignore[union-attr]
        group = zarr.open_group(str(root), mode="w", zarr_format=3)
        group.attrs.update(
            {"format": FORMAT, "n": self.n, "seed": self.seed, "recipe": self.recipe, "names": list(parameters.names) if parameters else []}
        )
        for name in ARRAYS:
            shape, dtype = rows[name]
            group.create_array(
                name,
                shape=(self.n, *shape),
                dtype=dtype,
                chunks=(CHUNK, *shape),
                shards=(SHARD, *shape),
                compressors=ZstdCodec(level=0, checksum=True),
                config={"write_empty_chunks": True},
            )

    @property
    def shards(self) -> list[int]:
        """Numbers of all shards."""
        return list(range(-(-self.n // SHARD)))

    def rows(self, shard: int) -> range:
        """Return the simulations of a shard."""
        return range(shard * SHARD, min((shard + 1) * SHARD, self.n))

    def _files(self, shard: int) -> dict[str, Path]:
        ranks = {"theta": 2, "psf": 4, "images": 4, "binning": 1, "ids": 1}
        return {name: self.path / name / "c" / "/".join([str(shard), *["0"] * (ranks[name] - 1)]) for name in ARRAYS}

    def has(self, shard: int) -> bool:
        """Say whether a shard is complete."""
        return all(file.is_file() and file.stat().st_size > 0 for file in self._files(shard).values())

    @property
    def missing(self) -> list[int]:
        """Shards that are still to be written."""
        return [shard for shard in self.shards if not self.has(shard)]

    def write(self, shard: int, simulations: Noiseless) -> None:
        """Write one shard: stage, flush, rename."""
        rows = self.rows(shard)
        if len(simulations) != len(rows):
            raise InputError(f"shard {shard} holds {len(rows)} simulations; got {len(simulations)}")
        stage = self.path.parent / f".{self.path.name}.{shard}.{uuid.uuid4().hex}"
        try:
            self._create_arrays(stage)
            group = zarr.open_group(str(stage), mode="r+")
            for name in ARRAYS:
                group[name][rows.start : rows.stop] = getattr(simulations, name)  # type: ignore[index]
            for final in self._files(shard).values():
                staged = stage / final.relative_to(self.path)
                with open(staged, "rb") as handle:
                    os.fsync(handle.fileno())
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged, final)
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def clear_stages(self) -> None:
        """Remove what killed writers have left beside the training set. Only call while nobody writes."""
        ours = re.compile(rf"\.{re.escape(self.path.name)}\.(\d+\.)?[0-9a-f]{{32}}")
        for stage in self.path.parent.glob(f".{self.path.name}.*"):
            if ours.fullmatch(stage.name):
                shutil.rmtree(stage, ignore_errors=True)

    def read(self, start: int, stop: int) -> Noiseless:
        """Read simulations `start` .. `stop`.

        Raises
        ------
        IncompleteError
            If a shard among them is missing.
        InputError
            If one is damaged.
        """
        wanted = range(start // SHARD, -(-stop // SHARD))
        absent = [shard for shard in wanted if not self.has(shard)]
        if absent:
            raise IncompleteError(
                f"{self.path} lacks {len(absent)} of its shards; run `astroflow simulate` again with the same arguments to complete it"
            )
        group = zarr.open_group(str(self.path), mode="r")
        arrays: dict[str, Array] = {}
        for name in ARRAYS:
            try:
                arrays[name] = np.asarray(group[name][start:stop])  # type: ignore[index]
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    f"{self.path / name} cannot be read between rows {start} and {stop}: {error}. "
                    "Remove its damaged file, and run `astroflow simulate` again with the same arguments"
                ) from error
        return Noiseless(**arrays)


ARRAYS = ("theta", "psf", "images", "binning", "ids")
