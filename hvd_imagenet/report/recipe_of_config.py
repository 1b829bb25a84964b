"""The recipe that a config.yaml describes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hvd_imagenet.recipes import RECIPES, Recipe, named, scaled_decay_epochs


def recipe_of_config(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a run.

    Args:
        config: of config.yaml: options by their names, or fields by theirs, as `RunLogger` writes them.

    Returns:
        The recipe; what the file leaves out is as in the named one.

    Raises:
        ValueError: a value breaks its rule, or the named recipe is not known and something is left out.

    Example:
        >>> recipe_of_config({"recipe": "digits", "image_size": 16, "epochs": 8}).decay_epochs
        (4.0, 6.0, 7.0)
        >>> recipe_of_config({"recipe": "of 2031", "minibatch": 64})
        Traceback (most recent call last):
        ...
        ValueError: recipe of 2031 is not known to this version, and model is left out
    """
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {name: config.get(name, config.get(name.removesuffix("_px"))) for name in names}
    stated = {name for name in names if name in config or name.removesuffix("_px") in config}
    values = {name: tuple(given[name]) if isinstance(given[name], list) else given[name] for name in stated}
    name = config.get("recipe")
    if name is None:
        return _checked(Recipe(), values)
    if isinstance(name, str) and name in RECIPES:
        recipe = named(name)
        if "epochs" in values and "decay_epochs" not in values:
            values["decay_epochs"] = _scaled(recipe, values["epochs"])
        return _checked(recipe, values)
    left_out = [field for field in names if field not in values]
    if left_out:
        raise ValueError(f"recipe {name} is not known to this version, and {', '.join(left_out[:1])} is left out")
    return _checked(Recipe(), values)


def _scaled(recipe: Recipe, epochs: Any) -> tuple[float, ...]:
    if isinstance(epochs, bool) or not isinstance(epochs, int | float):
        raise ValueError(f"epochs must be a number, not {epochs!r}")
    return scaled_decay_epochs(recipe, epochs)


def _checked(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    if not isinstance(values.get("seed", 0), int):
        raise ValueError(f"seed must be an integer, not {values['seed']!r}")
    try:
        return dataclasses.replace(recipe, **values)
    except (TypeError, ArithmeticError) as error:  # text where a number belongs
        raise ValueError(f"a value is of another kind ({error})") from error
