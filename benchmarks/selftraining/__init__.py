"""Self-training, measured: simulated data sets of many kinds, and every round on every set."""
