"""Speed and memory of picking and training, each compared with something in the same run.

    python benchmarks/speed.py [--only start,stages,limit,numbers,patches,rivals,training] [--cores 2] [--report]

Measures each part anew and merges it into ``benchmarks/results/speed.json`` with its date, commit and machine; the
tables in ``speed.md`` come from that file. This process and its children are confined to ``--cores``. Linux only.

- ``start``: commands with all their imports: help, one micrograph;
- ``stages``: each step for small and large micrographs, with one thread and more;
- ``limit``: what this processor needs at least for a micrograph: bytes read, operations of the network;
- ``numbers``: runs over 1 to 1,000 micrographs, with one worker and more;
- ``patches``: the whole micrograph at once against position by position;
- ``rivals``: Topaz (installed into ``work/topaz``) and RELION (if it is there; ``apt-get install relion``);
- ``training``: the default training of the paper's network.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from setting import describe
from timing import limit, many, patches, rivals, stages, start, training
from timing.bench import Bench
from timing.report import report

RESULTS = Path(__file__).parent / "results"
PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "start": start.measure,
    "stages": stages.measure,
    "limit": limit.measure,
    "numbers": many.measure,
    "patches": patches.measure,
    "rivals": rivals.measure,
    "training": training.measure,
}


def main() -> None:
    options = parse(None)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    path = RESULTS / "speed.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory(prefix="deeppicker-speed-") as folder:
        bench = Bench(Path(folder), options.work, options.cores)
        for name in [] if options.report else options.only:
            setting = describe(f"{options.cores} cores")
            result[name] = {"setting": setting, **PARTS[name](bench)}
            path.write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "speed.md").write_text(page(RESULTS))
    print(page(RESULTS))


def page(folder: Path) -> str:
    """Return all tables, with those of a graphics card (`gpu.py`) if it was measured."""
    card = folder / "gpu.json"
    return report(
        json.loads((folder / "speed.json").read_text()), json.loads(card.read_text()) if card.exists() else {}
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; those of the command line unless arguments are given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=parts, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--cores", type=int, default=2, help="processor cores to use (default: 2)")
    parser.add_argument("--work", type=Path, default=Path("work"), help="where Topaz is installed (default: work)")
    parser.add_argument("--report", action="store_true", help="measure nothing, make the tables again")
    return parser.parse_args(arguments)


def parts(text: str) -> list[str]:
    """Return the names in a list with commas."""
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    main()
