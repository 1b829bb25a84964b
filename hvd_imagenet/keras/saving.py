"""Saved models: what Keras does not keep of an optimizer is kept beside it, and read by load_model."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hvd_imagenet.keras.backend import horovod
from hvd_imagenet.keras.communication import path
from hvd_imagenet.keras.compiling import adapt_keras, after_compile, tell
from hvd_imagenet.keras.hook import Hook, innermost

ASSET = "hvd_imagenet.json"


def keep_exclusions(hook: Hook) -> None:
    """Makes a saved model hold what Keras leaves out of an optimizer's configuration.

    Args:
        hook: of the optimizer; Keras calls save_assets of any object that has it, and a plain load ignores it.

    Example:
        >>> from hvd_imagenet.keras.hook import hook_of
        >>> optimizer = keras.optimizers.SGD()
        >>> keep_exclusions(hook_of(optimizer))
        >>> hasattr(optimizer, "save_assets")
        True
    """

    def save_assets(folder: str) -> None:
        (Path(folder) / ASSET).write_text(json.dumps(_left_out(hook)))

    object.__setattr__(hook.optimizer_with_rate, "save_assets", save_assets)


def _left_out(hook: Hook) -> dict[str, Any]:
    optimizer = hook.optimizer_with_rate
    model = hook.reduction.model() if hook.reduction is not None and hook.reduction.model is not None else None
    variables = list(optimizer._trainable_variables) or ([] if model is None else list(model.trainable_variables))
    excluded = getattr(optimizer, "_exclude_from_weight_decay", set())
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    return {
        "excluded_variables": [
            [number, path(each)] for number, each in enumerate(variables) if optimizer._var_key(each) in excluded
        ],
        "excluded_names": None if pattern is None else pattern.pattern,
        "passes": 1 if hook.reduction is None else hook.reduction.passes,
    }


def load_model(
    filepath: Any,
    custom_optimizers: Any = None,
    custom_objects: dict[str, Any] | None = None,
    compression: Any = horovod.Compression.none,
    legacy_opts: bool = False,
) -> Any:
    """Loads a saved model and distributes its optimizer, whose state is kept.

    keras.models.load_model loads the same file without this package, with weights, optimizer state and learning rate;
    it loses the reduction over ranks, exclude_from_weight_decay (everything decays then), and the sum over
    backward_passes_per_step (it becomes the mean). Those two are written beside the model and are restored here.

    Args:
        filepath: of a `.keras` or `.h5` file; with the broadcast callback, rank 0 alone may load one, and the others
            make a model that is compiled alike. Of an `.h5` one Keras 3 itself restores the weights, but
            no optimizer to go on with; here it gets its variables and their values.
        custom_optimizers: list of optimizer classes that Keras does not know.
        custom_objects: names and classes or functions that Keras does not know.
        compression: hvd.Compression.none or .fp16.
        legacy_opts: Keras 3 has no legacy optimizers; must be False.

    Returns:
        The model; compiled, if it was.

    Raises:
        ValueError: legacy_opts, or what Keras raises.
    """
    from hvd_imagenet.keras.optimizer import DistributedOptimizer

    if legacy_opts:
        raise ValueError("legacy_opts must be False: Keras 3 has no legacy optimizers; train with keras.optimizers")
    adapt_keras()
    known = {each.__name__: each for each in custom_optimizers or []}
    model = keras.models.load_model(filepath, custom_objects={**known, **(custom_objects or {})})
    if getattr(model, "optimizer", None) is None:
        return model
    _restore_from_h5(model, filepath)
    DistributedOptimizer(model.optimizer, compression=compression)
    _restore(model, _read_asset(filepath))
    after_compile(model)
    return model


def _read_asset(filepath: Any) -> dict[str, Any] | None:
    if not isinstance(filepath, (str, Path)) or not zipfile.is_zipfile(filepath):
        return None
    with zipfile.ZipFile(filepath) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(rf"assets/optimizer/(.*/)?{ASSET}", name)]
        return json.loads(archive.read(names[0])) if names else None


def _restore_from_h5(model: Any, filepath: Any) -> None:
    """Makes the optimizer anew with its state: Keras builds it before the model has variables, and so for none."""
    import h5py

    if not isinstance(filepath, (str, Path)) or not h5py.is_hdf5(filepath):
        return
    from keras.src.legacy.saving.legacy_h5_format import load_optimizer_weights_from_hdf5_group

    model.optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    model.optimizer.build(model.trainable_variables)
    with h5py.File(filepath) as file:
        saved = load_optimizer_weights_from_hdf5_group(file) if "optimizer_weights" in file else []
        values = [np.asarray(value) for value in saved]
    variables = model.optimizer.variables
    if [tuple(each.shape) for each in variables] == [tuple(value.shape) for value in values]:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    elif values:
        tell(f"{filepath} holds an optimizer's state of another version of Keras: it begins anew")


def _restore(model: Any, left_out: dict[str, Any] | None) -> None:
    if left_out is None:
        return
    from hvd_imagenet.keras.hook import hook_of

    optimizer = innermost(model.optimizer)
    hook_of(model.optimizer).reduction.passes = left_out["passes"]
    variables = list(optimizer._trainable_variables) or list(model.trainable_variables)
    numbers = [number for number, _ in left_out["excluded_variables"]]
    names = left_out["excluded_names"]
    if numbers or names:
        # Not by exclude_from_weight_decay(), which some versions of Keras refuse once the optimizer is built.
        optimizer._exclude_from_weight_decay = {optimizer._var_key(variables[number]) for number in numbers}
        optimizer._exclude_from_weight_decay_pattern = re.compile(names) if names else None
        optimizer._exclude_from_weight_decay_cache = {}
