"""The tables of speed and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from timing import topaz
from timing.bench import DIAMETER, PIXEL_SIZE
from timing.patches import BATCH
from timing.rivals import ratios
from timing.targets import Result, run_of, table

Part = dict[str, Any]
_MACHINES = {"laptop": 4, "workstation": 16, "cluster": 100}
_USUAL = "4096×4096"
_BYTES = 4 * 4096**2  # of a micrograph


def report(result: Result, card: Result) -> str:
    """Return the whole page as Markdown, without the parts that were not measured; ``card`` is of a graphics card."""
    text = f"""# Speed and memory

`make benchmark-speed`. Particles of {DIAMETER:g} Å at {PIXEL_SIZE} Å per pixel in simulated micrographs, float32 in
MRC files in the system's memory. Commands are new processes, imports included; memory and CPU time are those of all
their processes together. Times are the shortest of several runs, except those under "Numbers of micrographs", of
Topaz, of the command for each size, of the diameter, position by position and of training, which were taken once.

{answers(result, card)}## Targets

{table(result)}

"""
    parts = [
        f"## {title}\n\n{section(result[name])}\n" for name, (title, section) in SECTIONS.items() if name in result
    ]
    settings = [
        [name, *(str(result[name]["setting"][key]) for key in ("date", "commit", "machine", "torch"))]
        for name in SECTIONS
        if name in result
    ]
    measured = rows(["part", "date", "commit", "machine", "torch"], settings)
    return text + "\n".join([*parts, f"## When and where\n\n{measured}"])


def answers(result: Result, card: Result) -> str:
    """Return how long a user waits, as far as it was measured."""
    if not {"start", "stages"} <= result.keys():
        return ""
    begin = result["start"]["pick"]["wall"]  # one micrograph included
    each, source = _each(result)
    lines = [
        [
            f"{number:,}",
            *(_duration(begin + (number - 1) * each / min(cores, number)) for cores in _MACHINES.values()),
            *(_duration(_on_card(card["runs"], number)) for _ in card.get("runs", [])[:1]),
            _duration(number * _BYTES / 1e9),
        ]
        for number in (1, 100, 10_000)
    ]
    machines = [f"{name}, {cores} cores" for name, cores in _MACHINES.items()]
    machines += [f"graphics card, {card['settings']['runs']['machine'].rpartition(', ')[2]}"] if "runs" in card else []
    head = ["micrographs", *machines, "to read them at 1 GB/s"]
    return f"""## How long it takes

Micrographs of 4096×4096 pixels, with the start of the program, without learning (once, some 40 s of a core) and the
start of cluster jobs. Calculated from the cold command for one and {each:.2f} s of a core for each additional one:
{source}. More cores are assumed to slow each other
no further.{_of_card(card)}

{rows(head, lines)}
"""


def _each(result: Result) -> tuple[float, str]:
    """Return the seconds of a core for each additional micrograph, and where they come from."""
    try:
        each, commit = run_of(result, _USUAL, 2, 100)["each more"], result["numbers"]["setting"]["commit"]
        return 2 * each, f"two workers on two cores take {each:.2f} s in a run of 100 (commit {commit})"
    except KeyError:
        commit = result["stages"]["setting"]["commit"]
        each = result["stages"]["sizes"][_USUAL]["threads"]["1"]["all"]
        return each, f"one thread in a warm process (commit {commit})"


def _on_card(runs: Sequence[Mapping[str, float]], number: int) -> float:
    """Return the seconds of a run: measured, or calculated from what each more took in the longest run."""
    known = {int(run["number"]): run["wall"] for run in runs}
    last = runs[-1]
    return known.get(number, last["wall"] + (number - last["number"]) * last["each more"])


def _of_card(card: Result) -> str:
    if "runs" not in card:
        return ""
    device = card["settings"]["runs"]["device"].removeprefix("on ").partition(",")[0]
    longest = card["runs"][-1]["number"]
    return f" Runs with a card ({device}, up to {longest:,} micrographs) were measured, as whole commands."


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def limit(part: Part) -> str:
    flops, peak = f"{part['flops'] / 1e9:.1f} GFLOP", f"{part['peak'] / 1e9:.0f} GFLOP/s"
    size, copied = f"{part['bytes'] / 1e6:.0f} MB", f"{part['copied'] / 1e9:.1f} GB/s"
    return f"""The network needs {flops} for a micrograph of 4096×4096 pixels, and a core of this processor reaches
{peak} in a product of matrices; its memory copies the {size} of the image at {copied}. So one core takes
at least **{part["seconds"]:.2f} s**.
"""


def rows(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))


def start(part: Part) -> str:
    names = {
        "help": "`deeppicker --help`",
        "pick": "`deeppicker pick`, diameter given",
        "pick with nothing given": "`deeppicker pick`, diameter estimated",
    }
    lines = [
        [text, f"{part[name]['wall']:.2f} s", f"{part[name]['cpu']:.2f} s", f"{part[name]['megabytes']:,.0f} MB"]
        for name, text in names.items()
    ]
    return "One micrograph of 4096×4096 pixels.\n\n" + rows(["command", "time", "CPU time", "memory"], lines)


def stages(part: Part) -> str:
    steps = ("read", "prepare", "score", "peaks, cleaning", "write", "all", "diameter")
    lines = [
        [size, threads, *(f"{one[step]:.3f}" for step in steps)]
        for size, both in part["sizes"].items()
        for threads, one in both["threads"].items()
    ]
    commands = [
        [size, f"{both['command']['wall']:.2f} s", f"{both['command']['megabytes']:,.0f} MB"]
        for size, both in part["sizes"].items()
    ]
    return f"""Seconds in a warm process. The diameter is estimated (or checked, if given) on a few micrographs of a run
only; it is not in "all".

{rows(["pixels", "threads", *steps], lines)}
The command for one such micrograph (diameter given):

{rows(["pixels", "time", "peak memory"], commands)}"""


def numbers(part: Part) -> str:
    lines = [
        [
            row["size"],
            str(row["workers"]),
            f"{row['number']:,}",
            f"{row['wall']:.1f} s",
            f"{row['each']:.3f} s",
            "–" if row["each more"] is None else f"{row['each more']:.3f} s",
            f"{100 * row['busy']:.0f} %",
            f"{row['megabytes']:,.0f} MB",
        ]
        for row in part["rows"]
    ]
    head = ["pixels", "workers", "micrographs", "time", "for each", "each more", "cores busy", "peak memory"]
    return f"""`deeppicker pick DIR --output OUT --diameter {DIAMETER:g} --learn off --workers N`. "Each more" is the
difference from the row above: without the start and, from 10 on, without the diameter, which is checked on three.

{rows(head, lines)}"""


def patches(part: Part) -> str:
    lines = [
        [name, f"{one['positions']:,}", f"{one['at once']:.2f} s", f"{one['one by one']:,.0f} s", f"{ratio:,.0f}"]
        for name, one, ratio in (
            ("the paper's (`deeppicker2016`)", part["paper"], part["ratios"]["paper"]),
            ("the default (`general`)", part["default"], part["ratios"]["default"]),
        )
    ]
    return f"""Scoring of one prepared micrograph of 4096×4096 pixels, same weights and same scores (checked), same
{part["threads"]} threads. One by one, the paper's network gets the 64×64 window around each position, {BATCH:,} at a
time; the default network gets the 272×272 pixels on which the score of a position depends, 8 at a time. Both are
extrapolated from a sample of the positions.

{rows(["network", "positions", "at once", "one by one", "ratio"], lines)}
The paper's network window by window, which is how the original scores, takes
**{part["ratios"]["paper to default"]:,.0f}** times as long as the default network takes at once.
"""


def rivals(part: Part) -> str:
    names = {
        "deeppicker": "DeepPicker, two workers",
        "deeppicker, one worker": "DeepPicker, one worker",
        "relion": "RELION's LoG, two processes",
        "relion, one process": "RELION's LoG, one process",
    } | {f"topaz, scale {scale}": f"Topaz {topaz.VERSION}, scale {scale}" for scale in topaz.SCALES}
    lines = []
    elsewhere = [names[name] for name, one in ratios(part["programs"]).items() if one != part["ratios"][name]]
    for name, one in part["programs"].items():
        ratio = part["ratios"].get(name, {"one": 1.0, "each more": 1.0} if name == "deeppicker" else {})
        lines.append(
            [
                names[name],
                f"{one['runs']['1']['wall']:.2f} s",
                f"{ratio['one']:.2f}" if ratio else "–",
                f"{one['each more']:.2f} s",
                f"{ratio['each more']:.2f}" if ratio else "–",
                f"{one['cpu each more']:.2f} s",
                f"{one['megabytes']:,.0f} MB",
                f"{one['picks']:.0f}",
            ]
        )
    head = ["program", "one micrograph", "over ours", "each more", "over ours"]
    head += ["CPU time", "peak memory", "picks"]
    scales = "; ".join(f"{s} ({s * PIXEL_SIZE:.1f} Å per pixel) is {why}" for s, why in topaz.SCALES.items())
    apart = (
        f"\n\n{'; '.join(elsewhere)}: times from another run, ratios to DeepPicker in that run." if elsewhere else ""
    )
    return f"""Micrographs of 4096×4096 pixels, whole commands, same cores. "One micrograph" is a cold command for one;
"each more" is the time for one more in a longer run; ratios are to DeepPicker, two workers. RELION:
`relion_autopick(_mpi)` with the options of its own window (`--LoG --shrink 0 --lowpass 20`), 150 to 210 Å. Topaz:
`topaz preprocess -s SCALE` and `topaz extract` with its default model, together; by its quick start guide, scale
{scales}. The picks are counted
only to show that each program did its work; Topaz lists them down to a probability of 0.0025.{apart}

{rows(head, lines)}"""


def training(part: Part) -> str:
    return f"""The paper's network, default settings, {part["particles"]:,} particles and as many negatives:
{part["epoch"]:.1f} s per epoch, so **{part["minutes"]:.1f} min** for {part["epochs"]}.
"""


SECTIONS: dict[str, tuple[str, Callable[[Part], str]]] = {
    "start": ("Commands from a cold start", start),
    "stages": ("Steps and sizes", stages),
    "limit": ("What a core can do", limit),
    "numbers": ("Numbers of micrographs", numbers),
    "patches": ("At once or position by position", patches),
    "rivals": ("Other programs", rivals),
    "training": ("Training", training),
}
