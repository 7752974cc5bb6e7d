"""Learning from corrections as a job of its own."""

from __future__ import annotations

from typing import Any

from deeppicker.errors import InputError
from deeppicker.gui.project import Project


class Jobs:
    """Starts jobs, and tells how they are."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def state(self) -> dict[str, Any] | None:
        """Return the state of the last job."""
        return None

    def do(self, what: str, _body: dict[str, Any]) -> None:
        """Start, cancel, accept or discard."""
        raise InputError(f"{what} cannot be done")
