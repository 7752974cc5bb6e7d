"""What a run folder is about (``run.json``), and which generation of commands may write into it. No torch.

A command joins the generation that it finds, and begins a new one where it starts the folder again. One that finds
another generation than its own was overtaken: it must not write anything more.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deeppicker.config import SelectConfig
from deeppicker.errors import DeepPickerError, FormatError, OvertakenError
from deeppicker.formats.atomic import atomic_write
from deeppicker.formats.lock import LOCK, locked
from deeppicker.formats.recorded import CHOSEN_OF, GENERATION, RUN, SELECT, THRESHOLD
from deeppicker.formats.sealed import checksum, read_json, seal
from deeppicker.formats.text import one_line

PROVISIONAL = 0.3
"""The threshold by which candidates are written as picks before one is chosen for the run."""


@dataclass(frozen=True)
class RunState:
    """What is recorded of a whole run folder.

    Parameters
    ----------
    settings : mapping
        All that decides which candidates are found (JSON values).
    select : SelectConfig
        Which candidates of the run are picks: as the command asks that was started last.
    threshold : float or None
        The threshold that all picks follow; None as long as some may not.
    generation : str
        That of the commands which may write.
    of : str
        Checksum of the candidates for which the threshold was chosen, and of the picks.
    """

    settings: Mapping[str, Any]
    select: SelectConfig
    threshold: float | None
    generation: str
    of: str = ""

    @property
    def digest(self) -> str:
        """A checksum of the settings."""
        return digest_of(self.settings)

    @property
    def provisional(self) -> float:
        """The threshold by which the picks of a micrograph are written until those of the run are selected."""
        given = self.select.threshold if self.select.threshold is not None else self.threshold
        return PROVISIONAL if given is None else given

    def write(self, folder: Path) -> None:
        """Write it into a folder; what `read_state` returns from then on, whatever happens to the machine."""
        if generation_of(folder) != self.generation:
            atomic_write(folder / GENERATION, self.generation, durable=True)
        content = {**self.settings, SELECT: asdict(self.select), THRESHOLD: self.threshold, CHOSEN_OF: self.of}
        atomic_write(folder / RUN, seal(content, indent=2), durable=True)


def digest_of(settings: Mapping[str, Any]) -> str:
    """Return a checksum of settings."""
    return checksum(json.dumps(settings, sort_keys=True).encode())


def new_generation() -> str:
    """Return the name of a generation that nobody has."""
    return secrets.token_hex(8)


def read_state(folder: Path) -> RunState | None:
    """Read ``run.json``; None if there is none.

    Raises
    ------
    FormatError
        If it is damaged, or cannot be read.
    """
    path = folder / RUN
    try:
        content = read_json(path)
        select, threshold, of = content.pop(SELECT), content.pop(THRESHOLD), content.pop(CHOSEN_OF)
        chosen = SelectConfig(**select) if select is not None else SelectConfig()
        given = None if threshold is None else float(threshold)
        return RunState(content, chosen, given, generation_of(folder), str(of))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, DeepPickerError) as error:
        raise FormatError(one_line(f"{path} is damaged ({error})")) from error


def generation_of(folder: Path) -> str:
    """Return the generation of a folder, nothing if there is none."""
    path = folder / GENERATION
    try:
        return path.read_bytes().decode("ascii", "replace") if path.is_file() else ""  # a pipe would never end
    except OSError:
        return ""


@contextmanager
def writing(
    folder: Path, generation: str, *, shared: bool = True, waiting: Callable[[], None] = lambda: None
) -> Iterator[RunState]:
    """Let a command of a generation write, together with others of it or (not ``shared``) alone; yield the state.

    Raises
    ------
    OvertakenError
        If the folder has another generation.
    OutputError
        If the folder cannot be written.
    """
    with locked(folder / LOCK, shared=shared, waiting=waiting):
        try:
            state = read_state(folder)
        except FormatError:
            state = None
        if state is None or state.generation != generation:
            raise OvertakenError(
                one_line(
                    f"{folder} was started again by another command, or its {RUN} was changed; "
                    "this command was overtaken and writes nothing more; repeat it to continue"
                )
            )
        yield state
