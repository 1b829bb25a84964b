#!/bin/sh
# Trains on several hosts with Open MPI's mpirun alone, as many processes as there are slots. In the checkout, which all
# hosts have at the same path, as they have the data:
#     HOSTS=my-hosts launch/mpirun.sh --data /data/imagenet --out runs/one-hour
# `hvd-imagenet launch --hosts my-hosts -- train …` does this too, watches the job and can start it again.
set -eu
export PATH="$PWD/.venv/bin:$PATH"
# Threads of a process, for runs without GPUs: cores of a host / slots of a host.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Where hosts have several networks, name one: --mca btl_tcp_if_include eth0 --prtemca oob_tcp_if_include eth0
exec mpirun --hostfile "${HOSTS:-launch/hosts}" --map-by slot --bind-to none --mca mpi_yield_when_idle 1 \
    -x PATH -x OMP_NUM_THREADS hvd-imagenet train "$@"
