"""Runs a function of a test file on several ranks of Keras; as ranks.run_ranks, but with hvd_imagenet.keras alone.

Run as a program, this file is one rank: FILE FUNCTION ARGUMENTS, the last as JSON. Horovod's library for one framework
must not stand beside that for another in one process: each joins and leaves MPI for itself.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def run_keras_ranks(
    processes: int, function: Callable[..., None], *arguments: Any, timeout_s: float = 200, **variables: str
) -> str:
    """Calls a function on every rank of a job, after hvd.init(); what the ranks have printed, standard error last.

    Args:
        processes: number of ranks.
        function: at the top level of a file; it takes the arguments.
        arguments: plain data.
        timeout_s: after which the job is ended.
        variables: of the environment; KERAS_BACKEND is tensorflow if not given.
    """
    from ranks import program, run

    words = [sys.executable, __file__, function.__code__.co_filename, function.__name__]
    command = program("launch", "-np", str(processes), "--", *words, json.dumps(arguments, default=str))
    done = run(
        command,
        timeout_s=timeout_s,
        **{"HOROVOD_CYCLE_TIME": "1", "KERAS_BACKEND": "tensorflow", "TF_NUM_INTEROP_THREADS": "2", **variables},
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"exit code {done.returncode}\n{output}"
    assert done.stdout.count(f"{function.__name__} is done") == processes, output
    return output


def main(file: str, name: str, arguments: str) -> None:
    import hvd_imagenet.keras as hvd

    hvd.init()
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, name)(*json.loads(arguments))
    print(f"{name} is done", flush=True)
    hvd.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
