"""What is done with picked particles: stacks, orientation of coordinates, contrast transfer, class averages."""
