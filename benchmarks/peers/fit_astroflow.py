"""astroflow's posteriors of the stamps, and what they cost: plain, linearised, certified, refined. Run in astroflow's environment.

All galaxies go through at once, as in a catalog; the first pass compiles and is counted apart, as the difference to a second one. Lines
of the output are those of `fit_pysersic`; rows without a verdict OK on the inference have no estimate in `certified`, whose
draws are those of the linearised posterior, and rows that the budget was too small for none in `refined`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.peers.conventions import compared_from_astroflow


def main() -> None:
    import astroflow as af

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("benchmarks/reference_bundle"))
    parser.add_argument("--stamps", type=Path, default=Path("runs/peers/stamps.npz"))
    parser.add_argument("--out", type=Path, default=Path("runs/peers/astroflow.jsonl"))
    parser.add_argument("--draws", type=int, default=512)
    given = parser.parse_args()
    data = dict(np.load(given.stamps))
    posterior = af.load_posterior(given.bundle)
    if list(posterior.parameters.names) != data["names"].tolist():
        raise SystemExit(f"{given.bundle} is of {posterior.parameters.names}, not of the reference problem's {data['names'].tolist()}")
    stamps = af.Stamps(
        images=data["images"][:, None], rms=data["rms"][:, None], psf=data["psf"][:, None], ids=np.arange(len(data["images"])),
        zero_point=float(data["zero_point"]), pixel_scale_arcsec=float(data["pixel_scale_arcsec"]),
    )  # fmt: skip

    def infer(method: str):
        """Return draws, and which rows have an answer."""
        encoded = posterior.encode(stamps, least_snr=np.inf if method == "plain" else 0.0)
        if method == "refined":
            refined = posterior.refine(encoded, given.draws, seed=1)
            return refined.draws, refined.method > 0
        draws = posterior.sample(encoded, given.draws, seed=1)
        return draws, posterior.certify(encoded, given.draws, seed=1).inference == 1 if method == "certified" else np.ones(
            len(stamps), bool
        )

    lines = []
    for method in ("plain",) if posterior.linearized is None else ("plain", "linearised", "certified", "refined"):
        walls, cpus = [], []
        for _ in range(2):
            start, cpu = time.perf_counter(), time.process_time()
            draws, passed = infer(method)
            walls.append((time.perf_counter() - start) / len(stamps))
            cpus.append((time.process_time() - cpu) / len(stamps))
        values = compared_from_astroflow(dict(zip(posterior.parameters.names, np.moveaxis(draws.astype(np.float64), -1, 0), strict=True)))
        estimate, sd = (np.where(passed[:, None], moment, np.nan) for moment in (values.mean(1), values.std(1)))
        for i in range(len(stamps)):
            lines.append({
                "galaxy": i, "method": f"astroflow {method}", "estimate": estimate[i].tolist(), "sd": sd[i].tolist(),
                "seconds": walls[0], "compile_seconds": max(walls[0] - walls[1], 0.0), "cpu_seconds": cpus[0],
            })  # fmt: skip
        print(f"astroflow {method}: {1e3 * walls[1]:.2f} ms a galaxy, {given.draws} draws each; {passed.sum()} of {len(stamps)} rows")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
