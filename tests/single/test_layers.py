"""The layers hold: looked at in a fresh interpreter, and in the source by import-linter."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"torch", "tensorflow", "keras", "horovod", "mpi4py"}
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
# Horovod's, which unpickle what comes over the network: in a job without a secret, unchecked.
PICKLING = {"broadcast_object", "allgather_object", "broadcast_optimizer_state", "broadcast_object_fn"}
BOUND_TO_A_FRAMEWORK = ("hvd_imagenet.torch", "hvd_imagenet.keras")


def _modules(prefix):
    """Names of all modules of the package that do not belong to a framework; none is imported here."""
    paths = (ROOT / "hvd_imagenet").rglob("*.py")
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return sorted(
        name
        for name in names
        if name.startswith(prefix) and not name.startswith(BOUND_TO_A_FRAMEWORK) and not name.endswith("__main__")
    )


def _imported_by(names):
    """The top-level packages in sys.modules of a fresh interpreter after importing names."""
    code = (
        "import importlib, json, sys\n"
        "before = set(sys.modules)\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "new = set(sys.modules) - before\n"
        "print(json.dumps([sorted({name.split('.')[0] for name in new}), sorted(new)]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tops, all_names = json.loads(result.stdout)
    return set(tops), set(all_names)


def test_nothing_outside_the_frameworks_packages_imports_a_framework():
    names = _modules("hvd_imagenet.")
    assert {"hvd_imagenet.training_run", "hvd_imagenet.commands.train", "hvd_imagenet.launcher.mpirun"} <= set(names)
    tops, _ = _imported_by(names)
    assert "numpy" in tops
    assert not FRAMEWORKS & tops


def test_the_core_imports_numpy_and_the_standard_library_alone():
    names = _modules("hvd_imagenet.core")
    assert len(names) >= 9
    tops, all_names = _imported_by(names)
    # Names with an underscore: what compiled modules of numpy make for themselves (_cython_3_1_2).
    others = {top for top in tops - set(sys.stdlib_module_names) if not top.startswith("_")}
    assert others == {"numpy", "hvd_imagenet"}
    ours = {name for name in all_names if name.startswith("hvd_imagenet")}
    assert ours == {"hvd_imagenet", *names}


@pytest.mark.parametrize("package", ["data", "launcher", "horovod_build", "report", "commands"])
def test_every_package_loads_by_itself(package):
    tops, _ = _imported_by(_modules(f"hvd_imagenet.{package}"))
    assert not FRAMEWORKS & tops


def test_the_contracts_in_setup_cfg_hold():
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-cache", "--config", "setup.cfg"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def _names_in(tree):
    """The modules and functions that a module imports, and the attributes that it takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module).split(".")[0], *(alias.name for alias in node.names))
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_nothing_pickles_or_unpickles():
    """The drop-in for Keras hands Horovod's own functions on to programs that ask for them by name."""
    paths = sorted((ROOT / "hvd_imagenet").rglob("*.py"))
    assert len(paths) > 200
    found = {path.name: (PICKLES | PICKLING) & set(_names_in(ast.parse(path.read_text()))) for path in paths}
    assert not {name: names for name, names in found.items() if names}
