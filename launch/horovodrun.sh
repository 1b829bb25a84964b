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
# Without GPUs here Horovod looks every 20 ms for what is to be reduced: at its 1 ms it takes cores from the training.
command -v nvidia-smi >/dev/null || export HOROVOD_CYCLE_TIME="${HOROVOD_CYCLE_TIME:-20}"
# node1 slots=8 or node1:8, line by line → the sum, and node1:8,…; over comments and empty lines horovodrun would stumble
placed=$(awk -v file="$HOSTS" '
    function fail(why) { print "error: " file ": " why > "/dev/stderr"; failed = 1; exit 2 }
    { sub(/#.*/, ""); gsub(/[ \t]slots[ \t]*=|:/, " ") }
    NF && $2 !~ /^[1-9][0-9]*$/ { fail($1 " has no number of slots, which horovodrun wants; write: " $1 " slots=8") }
    NF { hosts = hosts comma $1 ":" $2; comma = ","; sum += $2 }
    END { if (failed) exit 2; if (!sum) fail("no host in it; write one a line, as in: node1 slots=8"); print sum, hosts }
' "$HOSTS")
# Where hosts have several networks, name one: --network-interface eth0
exec horovodrun --gloo -np "${placed%% *}" -H "${placed#* }" --start-timeout 600 --gloo-timeout-seconds 600 \
    hvd-imagenet train "$@"
