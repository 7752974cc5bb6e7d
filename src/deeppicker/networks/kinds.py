"""The networks that there are. No torch, so that the command line can name them."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeppicker.networks.base import Network

NETWORKS = {
    "dense": "deeppicker.networks.dense:DenseNetwork",
    "paper": "deeppicker.networks.paper:PaperNetwork",
}
"""Where each network is, by the name under which model files and the command line know it."""


def network_class(kind: str) -> type[Network]:
    """Return the class of a kind of network, which loads PyTorch."""
    found: type[Network] = pkgutil.resolve_name(NETWORKS[kind])
    return found
