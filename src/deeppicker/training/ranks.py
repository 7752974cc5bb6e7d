"""Several processes that train one model: each computes a part of every batch. One process by itself is the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deeppicker.errors import DeepPickerError, InputError

_CPU = torch.device("cpu")
_PATIENCE = timedelta(days=2)  # the others wait while the first process reads the micrographs


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train one model; by default it is the only one.

    Parameters
    ----------
    rank : int
        Number of this process. The first one, 0, writes all files.
    size : int
        How many there are.
    device : torch.device
        Where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    def share(self, number: int) -> slice:
        """Return which of ``number`` things are for this process: a run, as long as any other's give or take one."""
        return slice(number * self.rank // self.size, number * (self.rank + 1) // self.size)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network such that its gradients become the mean of those of all processes."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, device_ids=None if self.device.type == "cpu" else [self.device])

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def agree(self, network: nn.Module) -> None:
        """Give the statistics of the first process to all; the weights are the same anyway."""
        if self.size > 1:
            for statistic in network.buffers():
                dist.broadcast(statistic, 0)

    def once(self, action: Callable[[], object]) -> None:
        """Let the first process do something while the others wait."""
        if self.rank == 0:
            action()
        if self.size > 1:
            try:
                dist.barrier()
            except RuntimeError as error:
                raise DeepPickerError("another process of this training has ended; its message says why") from error


def current(alone: torch.device = _CPU) -> Ranks:
    """Return the place of this process among those that `joined` has brought together.

    If it is by itself, it computes on the device given.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks(device=alone)
    cuda = dist.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[None]:
    """Join the other processes that `torchrun` started, if it started this one; only the first of them prints.

    They compute on a card each (with NCCL) if there are as many on this machine and ``device`` is not the processor,
    otherwise on the processor (with Gloo).

    Raises
    ------
    InputError
        If a card is asked for by its number, or Apple's graphics.
    """
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys():
        yield
        return
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: each process of torchrun takes a card of its own; leave --device out")
    wanted = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    cuda = device != "cpu" and torch.cuda.device_count() >= wanted
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        with contextlib.ExitStack() as stack:
            if dist.get_rank():
                silence = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(silence))
            yield
    finally:
        dist.destroy_process_group()
