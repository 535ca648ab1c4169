"""What Hydra and OmegaConf refuse while they compose a config, in one line of ours.

in:  their exception
out: what was given, what is allowed, what to do; never their own words for keys and types of the config

They tell which key and which value by the text of the exception alone, so it is matched here, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from neurogen.config import Experiment
from neurogen.config.schema import refusal, unknown_key, unknown_value
from neurogen.errors import one_line

FILES_OF_YOUR_OWN = {
    "dataset": "dataset=image_folder dataset.path=FOLDER, or dataset=text_table dataset.path=FILE",
    "backbone": "backbone=causal_lm backbone.model=OWNER/NAME",
}


def explained(error: BaseException, sections: Mapping[str, type]) -> str:
    """The line for an exception of Hydra's. `sections` are dataclasses of keys that `Experiment` leaves open."""
    text = one_line(error).split(" Config search path:")[0].split(" See https://hydra.cc")[0]
    for pattern, line in (
        (r"Could not override '([^']+)'", lambda key: unknown(key, sections)),
        (r"In '.*': Could not find '([^']*)' Available options in '([^']+)': (.*)", _unknown_file),
        (r"Error merging override ([^ =]+)=(.*)", _misfit),
        (r"Could not append to config. An item is already at '([^']+)'", _present),
        (r"Multiple values for ([^ ]+)\. To override", _present),
        (r"Cannot find primary config '([^']+)'", _no_config),
        (r"Additional config directory '([^']+)' not found", _no_folder),
    ):
        match = re.match(pattern, text)
        if match:
            return line(*match.groups())
    return text


def unknown(key: str, sections: Mapping[str, type]) -> str:
    """The line for a key that does not exist, with those that do."""
    if "@" in key:
        return f"{key}: only a target may be given for another place; allowed: target@source=NAME, that of stage 1"
    first, _, rest = key.partition(".")
    if first == "hydra":
        return f"Hydra has no setting {key}; --cfg hydra shows those that it has"
    if first in sections and rest:
        return unknown_key(rest, sections[first], f"{first}.")
    return unknown_key(key, Experiment)


def _unknown_file(path: str, group: str, names: str) -> str:
    name = path.removeprefix(f"{group}/")
    line = unknown_value(f"{group}={name}", name, names.split())
    return line + (f"; for your own: {FILES_OF_YOUR_OWN[group]}" if "/" in name and group in FILES_OF_YOUR_OWN else "")


def _misfit(key: str, value: str) -> str:
    given: Any = {"[": [], "{": {}}.get(value[:1], value)
    return refusal(key, given, Experiment, f"{key}={value}")


def _present(key: str) -> str:
    return f"+{key}=… adds what is there already; leave out the +: {key}=VALUE"


def _no_config(name: str) -> str:
    return f"--config-name={name} is no file of conf/; leave it out, or give the name of a whole config of your own"


def _no_folder(folder: str) -> str:
    return f"--config-dir={folder} is no folder; give the one that holds files of your own, as FOLDER/dataset/NAME.yaml"


def uninterpolated(key: str, given: str, problem: str) -> str:
    """The line for a value with ${…} that cannot be replaced, because of this problem in OmegaConf's words."""
    text = f"to write a text with ${{ in it, put it in quotes and a \\ before it: {key}='\\${{…}}'"
    variable = re.search(r"Environment variable '([^']+)' not found", problem)
    if variable:
        return f"{key}={given}: the environment variable {variable[1]} is not set; export {variable[1]}=VALUE first"
    missing = re.search(r"Interpolation key '([^']+)' not found", problem)
    if missing:
        return f"{key}={given}: the config has no key {missing[1]}; {text}"
    if "Recursive interpolation" in problem:
        return f"{key}={given} refers to itself; give a value"
    return f"{key}={given} cannot be replaced; allowed: ${{KEY}}, ${{oc.env:VARIABLE}}; {text}"
