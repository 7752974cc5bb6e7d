"""Where a job is done for many items: this process, processes on this machine, Dask, SLURM jobs. No torch."""
