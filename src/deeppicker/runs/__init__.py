"""A run over many micrographs: its folder, the job for each micrograph, arrivals during data collection."""
