#!/bin/sh
# Trains on several hosts with horovodrun over Gloo, as many processes as there are slots. In the checkout, which all
# hosts have at the same path, as they have the data:
#     HOSTS=my-hosts launch/horovodrun.sh --data /data/imagenet --out runs/one-hour
# `hvd-imagenet launch --launcher horovodrun --hosts my-hosts -- train …` does this too, watches the job and can start it
# again. `horovodrun --mpi` goes over MPI.
set -eu
HOSTS="${HOSTS:-launch/hosts}"
export PATH="$PWD/.venv/bin:$PATH"
# Threads of a process, for runs without GPUs: cores of a host / slots of a host.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# node1 slots=8, line by line → node1:8,… and the sum; what is commented out, and empty lines, horovodrun would stumble over
hosts=$(awk -F '[ \t=]+' '/^[^#[:space:]]/ { printf "%s%s:%s", comma, $1, $3; comma = "," }' "$HOSTS")
slots=$(awk -F '[ \t=]+' '/^[^#[:space:]]/ { sum += $3 } END { print sum }' "$HOSTS")
# Where hosts have several networks, name one: --network-interface eth0
exec horovodrun --gloo -np "$slots" -H "$hosts" --start-timeout 600 --gloo-timeout-seconds 600 hvd-imagenet train "$@"
