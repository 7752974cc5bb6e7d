"""Two-dimensional class averages of picks: windows, expectation-maximisation, refinement, quality, files."""
