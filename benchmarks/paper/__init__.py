"""The experiments of the DeepPicker paper, one module each; ``benchmarks/reproduce.py`` runs them."""
