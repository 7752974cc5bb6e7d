"""What networks learn from, as tensors: windows with labels, or crops with maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch

Kind = TypeVar("Kind", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Images, all of one size, and what a network should make of them; the fields of the subclasses.

    Parameters
    ----------
    images : float32 tensor, (n, height, width)
        Prepared as for picking.
    """

    images: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self: Kind, device: torch.device) -> Kind:
        """Return the batch on a device."""
        return type(self)(*(getattr(self, item.name).to(device) for item in fields(self)))

    @classmethod
    def join(cls: type[Kind], parts: Sequence[Kind]) -> Kind:
        """Return all images in one batch."""
        return cls(*(torch.cat([getattr(part, item.name) for part in parts]) for item in fields(cls)))


@dataclass(frozen=True)
class WindowBatch(Batch):
    """Windows, each of which holds one particle or none.

    Parameters
    ----------
    labels : float32 tensor, (n,)
        1 for a particle, 0 for background.
    """

    labels: torch.Tensor


@dataclass(frozen=True)
class CropBatch(Batch):
    """Parts of micrographs with any number of particles, and maps of what is in them.

    Parameters
    ----------
    centres : float32 tensor, (n, side/2, side/2)
        1 at a particle's centre, falling off around it; NaN where nothing is known.
    presence : float32 tensor, (n, side/8, side/8)
        1 where a particle covers the place, NaN where nothing is known.
    junk : float32 tensor, (n, side/8, side/8)
        1 where contamination covers the place, NaN where nothing is known.
    sizes : int64 tensor, (n,)
        Bin of the logarithm of true over assumed diameter; -1 for crops from which sizes are not learnt.
    """

    centres: torch.Tensor
    presence: torch.Tensor
    junk: torch.Tensor
    sizes: torch.Tensor
