"""The one place that decides where networks compute: on the processor or on graphics cards, and says why.

What is decided is written as a text: ``cpu``, ``mps``, ``cuda:1``, or several cards such as ``cuda:0,cuda:1``, among
which the worker processes of this machine are dealt. It can be sent to other processes. ``auto`` and ``cuda`` are
decided by whoever computes, as on the machines of a cluster.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from deeppicker.errors import InputError, TransientError
from deeppicker.parallel.processes import WORKER

LEAST_FREE = 1_500_000_000  # bytes of a card that one worker may need, with all that the driver takes for it
_MOST_WORKERS = 8  # of a card: they read and reduce micrographs on the processor while one of them has the card
_NO_CARD = "no graphics card was found"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Card:
    """A graphics card: its name, memory in bytes, and why it cannot be used, if it cannot."""

    name: str
    free: int
    total: int
    fault: str = ""

    @property
    def problem(self) -> str:
        """Why it is not used unless it is asked for; empty if it is."""
        if self.fault:
            return f"{self.name} cannot be used: {self.fault}"
        if self.free < LEAST_FREE:
            return f"{self.name} has only {self.free / 1e9:.1f} of {self.total / 1e9:.1f} GB free"
        return ""


@dataclass(frozen=True)
class Offer:
    """What this machine has.

    Parameters
    ----------
    cards : tuple of Card
        By number.
    apple : bool
        Whether Apple's graphics is there.
    lack : str
        Why there is no card, if there is none.
    misfit : bool
        Whether there may be one, but PyTorch and the driver do not fit.
    """

    cards: tuple[Card, ...] = ()
    apple: bool = False
    lack: str = _NO_CARD
    misfit: bool = False


@dataclass(frozen=True)
class Place:
    """Where a command computes.

    Parameters
    ----------
    device : str
        As this module writes it.
    reason : str
        What it is, or why it is not a card, for people.
    workers : int or None
        Largest sensible number of worker processes; None if the cards do not limit it.
    """

    device: str
    reason: str
    workers: int | None = None

    def __str__(self) -> str:
        return f"on the processor ({self.reason})" if self.device == "cpu" else f"on {self.reason} ({self.device})"


def settle(wanted: str, *, one: bool = False) -> Place:
    """Return where to compute for a value of ``--device``, on this machine; ``one``: on no more than one card.

    Raises
    ------
    InputError
        If what is asked for cannot be used.
    """
    return choose(wanted, Offer() if wanted == "cpu" else offered(), one=one)


def choose(wanted: str, offer: Offer, *, one: bool = False) -> Place:
    """Return where to compute, given what there is; see `settle`."""
    if wanted == "cpu":
        return Place("cpu", "as asked for")
    if wanted == "mps":
        if not offer.apple:
            raise InputError("--device mps: this machine or its PyTorch has none; leave --device out")
        return Place("mps", "Apple's graphics")
    number = wanted.partition(":")[2]
    if number:
        return _on([_asked(int(number), offer)], offer)
    usable = [index for index, card in enumerate(offer.cards) if not card.problem]
    if usable:
        freest = max(usable, key=lambda index: offer.cards[index].free)
        return _on([freest] if one else usable, offer)
    lack = "; ".join(card.problem for card in offer.cards) or offer.lack
    if wanted == "cuda":
        raise InputError(f"--device cuda: {lack}; leave --device out to use the processor")
    return Place("cpu", lack)


def _asked(number: int, offer: Offer) -> int:
    """Return the number of a card that is asked for, if there is one and it works."""
    if number >= len(offer.cards):
        there = f"the cards are 0 to {len(offer.cards) - 1}" if offer.cards else offer.lack
        raise InputError(f"--device cuda:{number}: {there}; leave --device out to use what there is")
    if offer.cards[number].fault:
        raise InputError(f"--device cuda:{number}: {offer.cards[number].problem}; leave --device out")
    return number


def _on(numbers: Sequence[int], offer: Offer) -> Place:
    cards = [offer.cards[number] for number in numbers]
    names = ", ".join(f"{card.name}, {card.free / 1e9:.0f} of {card.total / 1e9:.0f} GB free" for card in cards)
    workers = sum(max(1, min(_MOST_WORKERS, int(card.free // LEAST_FREE))) for card in cards)
    return Place(",".join(f"cuda:{number}" for number in numbers), names, workers)


def offered(only_mine: bool = False) -> Offer:
    """Return what this machine has; ``only_mine``: the other cards of a worker process are not looked at closely."""
    build = torch.version.cuda or torch.version.hip
    if not build:
        lack = f"{_NO_CARD}; PyTorch is built for the processor only"
        if _driver():
            lack = "there is a driver of a graphics card, but PyTorch is built for the processor only"
        return Offer(apple=torch.backends.mps.is_available(), lack=lack)
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if not there:
        said = "".join(f" ({str(complaint.message).splitlines()[0]})" for complaint in complaints[:1])
        if _driver():
            return Offer(lack=f"PyTorch, built for CUDA {build}, does not fit the installed driver{said}", misfit=True)
        return Offer()
    number = torch.cuda.device_count()
    return Offer(tuple(_card(i, not only_mine or i == _mine(number)) for i in range(number)))


def _card(number: int, closely: bool) -> Card:
    """Return what a card is, closely: whether it can compute, which takes some of its memory."""
    if not closely:
        return Card(f"card {number}", 0, 0, "left to other workers")
    name = torch.cuda.get_device_name(number)
    try:
        torch.ones(8, device=f"cuda:{number}").sum().item()
        return Card(name, *torch.cuda.mem_get_info(number))
    except RuntimeError as error:  # such as: no kernel image is available; out of memory; in use by another process
        return Card(name, 0, 0, str(error).splitlines()[0])


def _driver() -> bool:
    """Return whether the driver of a card is installed."""
    return any(Path(path).exists() for path in ("/proc/driver/nvidia/version", "/dev/kfd")) or bool(
        shutil.which("nvidia-smi")
    )


def _mine(number: int) -> int:
    """Return which of so many cards falls to this process, by the number of a worker if it has one."""
    return int(os.environ.get(WORKER, os.getpid())) % number


def _decided(device: str) -> str:
    """Return where this process computes, if nobody has decided that for it."""
    try:
        return choose(device, offered(only_mine=True)).device
    except InputError as error:
        if WORKER in os.environ:
            raise TransientError(str(error)) from error
        raise


@cache
def torch_device(device: str) -> torch.device:
    """Return the device on which this process computes, which of several falls to it.

    Raises
    ------
    InputError
        If it cannot be used.
    TransientError
        If a worker process cannot use it now; it may be free later, or for another worker.
    """
    if device in ("auto", "cuda"):
        device = _decided(device)
    names = device.split(",")
    name = names[_mine(len(names))]
    if name != "cpu":
        _exact()
    return torch.device(name)


def _exact() -> None:
    """Have cards compute in float32 as the processor does, not in a shorter format, and the same each time.

    The picks must not depend on the device; and the network is a small part of the time on a card anyway.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def in_parts(compute: Callable[[int], Result], size: int, least: int) -> Result:
    """Return what is computed in parts of a size, or of half that where a card's memory does not hold it, and so on.

    Raises
    ------
    torch.OutOfMemoryError
        If it does not hold parts of the least size either.
    """
    while True:
        try:
            return compute(size)
        except torch.OutOfMemoryError:
            if size // 2 < least:
                raise
        torch.cuda.empty_cache()  # what is held but not used, for other processes too
        size //= 2
