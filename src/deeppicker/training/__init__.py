"""From micrographs with known particles to a model."""
