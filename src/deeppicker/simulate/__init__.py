"""Micrographs with known truth, simulated from structures: density maps, atomic models, invented shapes."""
