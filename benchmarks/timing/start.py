"""Commands as a user types them: a new process, all imports, one micrograph."""

from __future__ import annotations

import shutil
from typing import Any

from timing.bench import DIAMETER, USUAL, Bench
from timing.measure import DEEPPICKER, best

_REPEATS = 3


def measure(bench: Bench) -> dict[str, Any]:
    """Return the cost of cold commands whose files are in the page cache."""
    output = bench.folder / "start"
    pick = [*DEEPPICKER, "pick", bench.micrograph(USUAL), "--output", output]
    given = ["--diameter", str(DIAMETER)]

    def clear() -> None:
        shutil.rmtree(output, ignore_errors=True)

    return {
        "help": best(_REPEATS, [*DEEPPICKER, "--help"]).to_json(),
        "pick": best(_REPEATS, [*pick, *given], clear).to_json(),
        "pick with nothing given": best(_REPEATS, pick, clear).to_json(),
    }
