"""``deeppicker VERB ...``: find the verb, generate its options from its dataclass, run it."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TextIO

from deeppicker.errors import DeepPickerError

VERBS = {
    "pick": "find the particles in micrographs",
    "watch": "pick micrographs as they arrive during data collection",
    "train": "train a model on known particles",
    "adapt": "refine a model on its own best picks, or on a few manual ones",
    "evaluate": "compare picks with reference particles",
    "compare": "show how far several sets of picks agree, and write their consensus",
    "gui": "look at picks, correct them and learn from them in a browser",
    "report": "write one HTML file about a run",
    "view": "draw picks on a micrograph",
    "convert": "convert coordinates between formats",
    "check": "check whether coordinates are flipped or swapped against their micrographs",
    "extract": "cut the particles out as stacks of images for RELION and cryoSPARC",
    "relion": "run as a RELION External job",
    "simulate": "simulate micrographs with known particles from structures",
    "classify": "align and average picks in classes, and drop the junk",
    "ctf": "read or estimate the defocus of micrographs",
    "doctor": "show what this computer offers, and how fast it picks",
    "settings": "write all settings of a command as a file for its --settings",
    "completion": "print a script that completes commands and options in bash, zsh or fish",
}
HELP = {"-h", "--help", "--help-all"}
INTERRUPTED, TERMINATED = 130, 143  # what a shell reports for a program ended by Ctrl-C, or by `kill` or a batch system


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 if some micrographs failed, 2 if nothing could be done."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # for PyTorch, see docs/scaling.md
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show Å must not end a run
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    terminated: list[bool] = []
    try:
        with _stopped_by_signal(terminated), warnings.catch_warnings(record=False):
            warnings.showwarning = _show_warning
            status = _run(words)
            sys.stdout.flush()  # what cannot be written is found here, not after the end
            return status
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        if terminated:  # whatever came of it, such as a lost connection to a worker that had the signal too
            return _said("interrupted; repeat the command to continue", TERMINATED)
        return _ended_by(error)


def _ended_by(error: BaseException) -> int:
    """Say in one line why a command ends, and return its exit status."""
    if isinstance(error, KeyboardInterrupt):
        return _said("interrupted; repeat the command to continue", INTERRUPTED)
    if isinstance(error, DeepPickerError):
        return _said(str(error), 2)
    if isinstance(error, OSError):
        _drop_output()
        if isinstance(error, BrokenPipeError):  # `deeppicker ... | head`
            return 1
        return _said(f"{error}; check free space and permissions (--debug shows where this happened)", 2)
    raise error


def _said(text: str, status: int) -> int:
    from deeppicker.formats.text import one_line

    with contextlib.suppress(OSError):  # there may be nobody to tell
        print(f"deeppicker: {one_line(text)}", file=sys.stderr, flush=True)
    return status


def _drop_output() -> None:
    """Let what was printed and cannot be written go nowhere; else Python would complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Terminated(KeyboardInterrupt):
    """The signal by which batch systems end a program; it stops as after Ctrl-C."""


@contextlib.contextmanager
def _stopped_by_signal(terminated: list[bool]) -> Iterator[None]:
    """Stop as after Ctrl-C at the signal of batch systems, and note that it came."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        terminated.append(True)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"deeppicker {version('deeppicker')}")
        return 0
    if words[0] not in VERBS:
        return _said(f"no command {words[0]!r}; choose from {', '.join(VERBS)}", 2)
    return _run_verb(words[0], words[1:])


def _run_verb(verb: str, words: Sequence[str]) -> int:
    from deeppicker.cli._shared.help import help_text
    from deeppicker.cli._shared.options import module_of
    from deeppicker.cli._shared.ownership import ownership
    from deeppicker.cli._shared.parse import parse

    if HELP & set(words):
        print(help_text(verb, complete="--help-all" in words), end="")
        return 0
    options = parse(verb, words)
    with ownership(verb, options):
        status: int = module_of(verb).run(options)
    return status


def _show_warning(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Print a warning as one line; the signature is that of `warnings.showwarning`."""
    _said(f"warning: {message}", 0)


def _usage() -> str:
    lines = [f"  {verb:<12}{summary}" for verb, summary in VERBS.items()]
    return "\n".join(
        [
            "usage: deeppicker COMMAND ...",
            "",
            "Fully automated particle picking in cryo-electron micrographs.",
            "",
            "commands:",
            *lines,
            "",
            "`deeppicker COMMAND --help` lists the everyday options of a command, --help-all all of them;",
            "--debug shows the traceback of an error.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
