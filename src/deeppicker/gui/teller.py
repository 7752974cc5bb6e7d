"""How far a job is, written for the page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deeppicker.formats.atomic import atomic_write
from deeppicker.gui.rounds import JOB
from deeppicker.runs.events import Progressed, RunEvent

if TYPE_CHECKING:
    from deeppicker.training.loop import Training

Item = TypeVar("Item")


@dataclass
class Teller:
    """Writes how far a job is."""

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    begun: float = 0.0
    _losses: list[float] = field(default_factory=list)

    def tell(self, **values: Any) -> None:
        """Change some values, and write all."""
        self.values |= values
        atomic_write(self.folder / JOB, json.dumps(self.values) + "\n")

    def step(self, text: str, total: int) -> None:
        """Begin a step of so many items."""
        self.begun = time.monotonic()
        self.tell(step=text, done=0, total=total, left=None)

    def progress(self, done: int, total: int) -> None:
        """Say how many items are done, and estimate the time that is left in seconds."""
        left = (time.monotonic() - self.begun) / done * (total - done) if done else None
        self.tell(done=done, total=total, left=left)

    def track(self, items: Sequence[Item], text: str) -> Iterator[Item]:
        """Yield the items of a step, and say how far it is."""
        self.step(text, len(items))
        for done, item in enumerate(items, 1):
            yield item
            self.progress(done, len(items))

    def epoch(self, training: Training) -> None:
        """Say what an epoch of training reached."""
        history = [{"loss": e.train_loss, "validation": e.validation_loss} for e in training.history]
        self.values["history"] = history
        self.progress(len(history), training.settings.epochs)

    def training_step(self, done: int, total: int, loss: float) -> None:
        """Say what a step of a short training lost; the mean of every tenth of the steps is kept."""
        self._losses.append(loss)
        if done % max(1, total // 10) == 0:
            self.values["history"] = [*self.values.get("history", []), {"loss": sum(self._losses) / len(self._losses)}]
            self._losses.clear()
        self.progress(done, total)

    def hear(self, event: RunEvent) -> None:
        """Follow a run."""
        if isinstance(event, Progressed):
            if event.done == 0:
                self.step(event.step, event.total)
            else:
                self.progress(event.done, event.total)
