#!/bin/sh
# Trains on several hosts with Open MPI's mpirun alone, as many processes as there are slots. In the checkout, which all
# hosts have at the same path, as they have the data:
#     HOSTS=my-hosts launch/mpirun.sh --data /data/imagenet --out runs/one-hour
# `hvd-imagenet launch --hosts my-hosts -- train …` does this too, watches the job and can start it again.
set -eu
export PATH="$PWD/.venv/bin:$PATH"
# Threads of a process, for runs without GPUs: cores of a host / slots of a host.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Without GPUs here Horovod looks every 20 ms for what is to be reduced: at its 1 ms it takes cores from the training.
command -v nvidia-smi >/dev/null || export HOROVOD_CYCLE_TIME="${HOROVOD_CYCLE_TIME:-20}"
# Binding is faster, and wants the number of a host's cores. Of 64 cores and 8 slots, in place of `--map-by … none`:
#     --map-by slot:PE=8 --bind-to core
# Where hosts have several networks, name one: --mca btl_tcp_if_include eth0 --prtemca oob_tcp_if_include eth0
exec mpirun --hostfile "${HOSTS:-launch/hosts}" --map-by slot --bind-to none --mca mpi_yield_when_idle 1 \
    -x PATH -x OMP_NUM_THREADS ${HOROVOD_CYCLE_TIME:+-x HOROVOD_CYCLE_TIME} hvd-imagenet train "$@"
