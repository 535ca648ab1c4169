"""What Hydra composed goes in, a validated `Experiment` comes out.

What cannot work is refused here, before anything is trained or queued, in one line: what was given, what is allowed,
what to do. Types, allowed values and limits of single numbers are checked by the dataclasses of neurogen/config, what
joins several keys by its rules.py.

This module imports no torch.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from neurogen.composition import uninterpolated
from neurogen.config import Experiment
from neurogen.config.limits import require_limits
from neurogen.config.rules import validate
from neurogen.config.schema import kind_at, mismatched_key, refusal, unknown_key
from neurogen.errors import UserError
from neurogen.secrets import require_no_secret_names, require_no_secrets

if TYPE_CHECKING:
    from omegaconf.errors import OmegaConfBaseException

Section = TypeVar("Section")


def experiment_from(composed: Any) -> Experiment:
    """What Hydra composed, resolved or not → validated Experiment. Raises UserError."""
    experiment = typed(Experiment, composed)
    require_no_secrets(experiment)
    require_no_secret_names("cluster.environment", experiment.cluster.get("environment") or {})
    validate(experiment)
    return experiment


def typed(section: type[Section], values: Any) -> Section:
    """A mapping → the dataclass `section`.

    Raises UserError on unknown and missing keys, wrong types, values that an enum does not have and numbers outside
    their limits.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    from neurogen.config.exact import exactly

    if isinstance(values, dict) and (exact := exactly(section, values)) is not None:
        require_limits(exact)
        return exact
    try:
        config = cast(Section, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(section), values)))
    except MissingMandatoryValue as error:
        raise UserError(f"config {error.full_key} is missing; set {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise UserError(_refused(section, values, error)) from error
    require_limits(config)
    return config


def _refused(section: Any, values: Any, error: OmegaConfBaseException) -> str:
    """The line for a mapping that OmegaConf does not take as a dataclass."""
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError, InterpolationValidationError

    _, of_resolver, reason = str(error).partition(f"{UserError.__name__} raised while resolving interpolation: ")
    if of_resolver:  # choices.py; OmegaConf keeps of its exception the text alone
        return reason.splitlines()[0]
    value: Any = OmegaConf.to_container(OmegaConf.create(values))
    key = error.full_key or mismatched_key(value, section)
    if kind_at(key, section) is None:
        return unknown_key(key, section)
    for name in re.findall(r"[^.\[\]]+", key):
        value = value[int(name) if isinstance(value, list) else name]
    if isinstance(error, InterpolationResolutionError) and not isinstance(error, InterpolationValidationError):
        return uninterpolated(key, value, str(error))
    return refusal(key, value, section)


# Built-in functions have short names, so that the identity of a result does not depend on the module they live in.
BUILT_INS = {
    "dataset.load": {
        **dict.fromkeys(("digits", "mnist5k", "mnist", "fashion_mnist"), "neurogen.data.images"),
        **dict.fromkeys(("svhn", "cifar10", "image_folder"), "neurogen.data.images"),
        "arrays": "neurogen.data.arrays",
        "pool": "neurogen.data.pool",
        "glyphs": "neurogen.data.glyphs",
        "kanji": "neurogen.data.kanji",
        **dict.fromkeys(("newsgroups", "reuters"), "neurogen.data.corpora"),
        **dict.fromkeys(("rotten_tomatoes", "hub_text", "text_table"), "neurogen.data.texts"),
    },
    "target.build": {
        **dict.fromkeys(("lenet", "cnn", "mlp", "rnn"), "neurogen.targets.networks"),
        "resnet": "neurogen.targets.residual",
        "torchvision": "neurogen.targets.classifiers",
    },
}


def named_function(key: str, name: str) -> Callable[..., Any]:
    """The function that the config names: a built-in by its short name, any other as package.module.function.

    Raises UserError when there is none.
    """
    module, _, function = name.rpartition(".")
    try:
        imported = importlib.import_module(module or BUILT_INS[key][name])
        named: Callable[..., Any] = getattr(imported, function)
    except KeyError as error:
        allowed = ", ".join(BUILT_INS[key])
        raise UserError(f"{key}={name} is unknown; allowed: {allowed}, or your own as module.function") from error
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}={name} is no importable function ({error})") from error
    return named
