"""RELION's own files: STAR tables of coordinates and particles, its pipeline, classes and defocus."""
