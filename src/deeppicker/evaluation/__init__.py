"""Compare picks with a reference and with each other, in numbers and pictures. No torch."""
