#!/bin/sh
# Simulate what the models of the package learn from, in work/sim.
# usage: recipes/simulate.sh   (DEEPPICKER_DATA must name the folder of the development data; WORKERS: 2)
# About 8 minutes on two cores. After an interruption, the same command continues. All seeds are the defaults or stand here.
set -eu
data=${DEEPPICKER_DATA:?set it to the folder of the development data}
maps=$data/structures/maps
mkdir -p work/sim
# Structures of the real data sets and their relatives are simulated apart, and the base is trained without them: it is
# what `make benchmark-accuracy` starts from.
related="6pxm 6qzp 4v7r 4v4r 4v4r_30S 4v4r_50S 5mrc 5lmo 6dvw"
set --
for map in "$maps"/*.mrc.gz; do
    name=$(basename "$map" .mrc.gz)
    case " $related " in *" $name "*) ;; *) set -- "$@" "$map" ;; esac
done
options="--size 640 640 --pixels-across 26 44 --micrographs 8 --seed 1 --workers ${WORKERS:-2}"
# shellcheck disable=SC2086
deeppicker simulate "$@" --shapes 100 --output work/sim/gen $options
set --
for name in $related; do set -- "$@" "$maps/$name.mrc.gz"; done
# shellcheck disable=SC2086
deeppicker simulate "$@" --output work/sim/rel $options
