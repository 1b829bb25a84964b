#!/bin/bash
# docker run IMAGE WORDS: a command of hvd-imagenet (train, launch, doctor, …), any program on PATH, or one of these:
#   reproduce [OPTIONS OF minibatch_study.py]             the paper's Figure 1 and Table 1 on small images, one seed
#   digits [OPTIONS OF launch] [-- OPTIONS OF train]      trains on scanned digits, by default with 2 processes
#   ssh-worker                                            waits for a job of another container
#   ssh-keys                                              makes the key pair that a job's containers share
set -euo pipefail
keys=~/.ssh

fail() {
    echo "error: $1" >&2
    exit 2
}

needs_gpu() {
    if [ -n "${HVD_IMAGENET_CUDA:-}" ] && [ -z "${CUDA_VISIBLE_DEVICES+set}" ] && ! type -P nvidia-smi >/dev/null; then
        fail "this image is for NVIDIA GPUs, and this container was given none; start it with: docker run --gpus all …\
 (it needs the NVIDIA Container Toolkit), or take the CPU: docker run --env CUDA_VISIBLE_DEVICES= …"
    fi
}

needs_gpu_unless_hosts() {
    local word
    for word in "$@"; do
        case $word in
            --) break ;;
            -H* | --host* | --discover* | --dry-run) return ;;
        esac
    done
    needs_gpu
}

reproduce() {
    # One thread of a CPU a run, also in the image for GPUs.
    exec env CUDA_VISIBLE_DEVICES= python3 /usr/local/share/hvd_imagenet/benchmarks/minibatch_study.py \
        --only FIGURE1 TABLE1 --seeds 1 --csv minibatch_study.csv --json minibatch_study.json "$@"
}

digits() {
    local launch=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        launch+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    [ ${#launch[@]} -gt 0 ] || launch=(-np 2)
    needs_gpu_unless_hosts "${launch[@]}"
    hvd-imagenet make-dataset data/digits --source digits >/dev/null
    exec hvd-imagenet launch "${launch[@]}" -- train --recipe digits --data data/digits "$@"
}

ssh_worker() {
    local second
    needs_gpu
    for second in {1..30}; do
        [ ! -r "$keys/authorized_keys" ] || exec /usr/sbin/sshd -D -e -f /etc/hvd_imagenet/sshd_config
        sleep 1
    done
    fail "ssh-worker: no key pair in $keys after $second s; mount the volume in which ssh-keys has made one, or let the\
 MPI Operator mount its own (sshAuthMountPath: $keys)"
}

ssh_keys() {
    [ ! -e "$keys/authorized_keys" ] || return 0
    ssh-keygen -q -t ed25519 -N '' -C 'containers of a job' -f "$keys/id_rsa" <<<y >/dev/null
    # The last of the three, in one step: whoever finds it finds the others.
    cp "$keys/id_rsa.pub" "$keys/.authorized_keys"
    mv "$keys/.authorized_keys" "$keys/authorized_keys"
}

case ${1:-} in
    reproduce) shift && reproduce "$@" ;;
    digits) shift && digits "$@" ;;
    ssh-worker) ssh_worker ;;
    ssh-keys) ssh_keys ;;
    *)
        case ${1:-} in
            train | evaluate) needs_gpu ;;
            launch) needs_gpu_unless_hosts "$@" ;;
        esac
        [ -z "$(type -P -- "${1:-}")" ] || exec "$@"
        exec hvd-imagenet "$@"
        ;;
esac
