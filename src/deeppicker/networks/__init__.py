"""The networks, and models: weights with all that picking needs to use them."""
