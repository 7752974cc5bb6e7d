"""Where jobs run: this process, processes on this machine, Dask, SLURM. No torch."""
