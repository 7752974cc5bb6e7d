#!/bin/sh
# Make the model general-small of the package: simulate, train on the simulation, train further with real data.
# recipes/together.py makes general, the default, from the same simulation.
# usage: recipes/general.sh   (DEEPPICKER_DATA must name the folder of the development data; about 50 min on two cores)
# After an interruption, the same command continues. All seeds are the defaults or stand here.
# The model in the package: simulation and base come from commit a4d3871, the further training from 05e8d20. Two things
# that training sees have changed since: the sense of the astigmatism's angle in simulated images, and the maps of the
# base, whose places lay half a pixel off. So a new run gives an equally good model, but not the same weights.
set -eu
data=${DEEPPICKER_DATA:?set it to the folder of the development data}
"$(dirname "$0")"/simulate.sh
train() { # OUTPUT OPTIONS ...: skipped if OUTPUT exists
    output=$1
    shift
    [ -f "$output" ] && [ ! -f "$output.checkpoint" ] || deeppicker train "$@" --output "$output"
}
train work/base.safetensors work/sim/gen/*/particles.star --epochs 40 --noise-crops 0 --empty-crops 0.12
further="--model work/base.safetensors --learning-rate 1e-3"
# shellcheck disable=SC2086
train work/simulation-only.safetensors work/sim/gen/*/particles.star $further --epochs 8
# Every second real micrograph without particles is for training; the others test the model.
set --
for kind in crystalline empty-ice no-ice; do
    odd=1
    for file in "$data/real/micrograph-quality/$kind"/*.mrc; do
        [ $odd = 0 ] || set -- "$@" "$file"
        odd=$((1 - odd))
    done
done
# shellcheck disable=SC2086
train work/general.safetensors work/sim/*/*/particles.star "$data"/real/*/particles.star $further --epochs 12 \
    --background "$@"
cp work/general.safetensors src/deeppicker/networks/weights/general-small.safetensors
