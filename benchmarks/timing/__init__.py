"""The parts of the benchmark of speed and memory; ``benchmarks/speed.py`` runs them."""
