"""One module for each image format; `read` knows them all."""
