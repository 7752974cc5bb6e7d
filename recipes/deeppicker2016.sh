#!/bin/sh
# Train the model in the package: the paper's network on the real data sets, with the default settings and seed.
# usage: recipes/deeppicker2016.sh   (DEEPPICKER_DATA must name the folder of the development data)
set -eu
real=${DEEPPICKER_DATA:?set it to the folder of the development data}/real
mkdir -p work
deeppicker train --network paper "$real"/apoferritin-10146/particles.star "$real"/trpv1-10059/particles.star \
    "$real"/ribosome-10028/particles.star --output work/deeppicker2016.safetensors
cp work/deeppicker2016.safetensors src/deeppicker/networks/weights/
