"""The networks that there are. No torch, so that the command line can name them."""

from __future__ import annotations

NETWORKS = {
    "dense": "deeppicker.networks.dense:DenseNetwork",
    "paper": "deeppicker.networks.paper:PaperNetwork",
}
"""Where each network is, by the name under which model files and the command line know it."""
