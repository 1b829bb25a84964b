#!/bin/sh
# Whether the image must be tested again: exit code 0 if what it is made of has changed since the last commit that
# touched none of it, else 1.
set -eu
cd "$(dirname "$0")/.."
set -- .dockerignore constraints.txt setup.cfg setup.py docker launch/compose.yaml launch/mpijob.yaml tests/docker \
    hvd_imagenet/horovod_build

touching=$(git rev-list --full-history HEAD -- "$@")
for commit in $(git rev-list --first-parent HEAD); do
    case "$touching" in
        *"$commit"*) ;;
        *)
            ! git diff --quiet "$commit" -- "$@"
            exit
            ;;
    esac
done
