#!/bin/sh
# Takes what only building needs out of an environment: slim.sh FOLDER.
set -eu
site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# TensorFlow asks for libclang and never loads it.
"$1/bin/python" -m pip uninstall --yes --quiet cmake ninja wheel libclang
rm -rf "$site/torch/include" "$site/torch/test" "$site/torch/share" "$site/tensorflow/include" "$site/pyarrow/include"
if [ -d "$site/torch/bin" ]; then
    find "$site/torch/bin" -type f ! -name torch_shm_manager -delete
fi
find "$site" -type d -name tests -prune -exec rm -rf {} +
find "$1" -name '*.a' -delete
find "$1/bin" \( -name 'mpicc' -o -name 'mpi[cC]*' -o -name 'mpif*' -o -name 'opal_wrapper' \) -delete
