"""One module for each coordinate format; `picks` knows them all."""
