"""The networks that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from deeppicker.errors import InputError
from deeppicker.networks.base import Network
from deeppicker.networks.dense import DenseNetwork
from deeppicker.networks.paper import PaperNetwork

NETWORKS: dict[str, type[Network]] = {network.kind: network for network in (PaperNetwork, DenseNetwork)}
"""The networks by the names under which model files know them."""


def new_network(seed: int, kind: str = PaperNetwork.kind, arguments: Mapping[str, Any] | None = None) -> Network:
    """Return an untrained network whose weights depend on ``seed`` only, in evaluation mode.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind not in NETWORKS:
        raise InputError(f"no network is called {kind!r}; set --network to {' or '.join(sorted(NETWORKS))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[kind](**(arguments or {})).train(False)
