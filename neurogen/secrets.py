"""Tokens and passwords, which stay out of everything that is written.

in:  a config or words of a command line; the environment
out: nothing, or a UserError: configs, manifests and the scripts of jobs are files that others may read

Nothing of the environment is written down. So a secret could only get there through a config.
"""

from __future__ import annotations

import os
import re
from typing import Any

from neurogen.errors import UserError

NAMES = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|CREDENTIALS?)(_|$)")
PLACES = re.compile(r"_(PATH|FILE|DIR|HOME|ID|NAME|URL)$")  # of a secret, not the secret
SHORTEST = 8  # characters; a shorter value also stands in words that mean something else
OF_THE_HUB = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
ADVICE = (
    "what is configured is written into files: leave it out; jobs inherit your environment, and `hf auth login` keeps "
    "the token of the Hub in your home"
)


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return NAMES.search(name.upper()) is not None and PLACES.search(name.upper()) is None


def require_no_secrets(written: Any) -> None:
    """Raises UserError where the repr of `written` has the value of a secret variable in it, or a token of the Hub."""
    text = repr(written)
    for name, value in os.environ.items():
        if is_secret(name) and len(value) >= SHORTEST and repr(value)[1:-1] in text:
            raise UserError(f"the config has the value of the variable {name} in it, a secret; {ADVICE}")
    if OF_THE_HUB.search(text):
        raise UserError(f"the config has a token of the Hub in it (hf_…); {ADVICE}")


def require_no_secret_names(section: str, names: Any) -> None:
    """Raises UserError where a secret is given by name in a mapping of the config."""
    for name in names:
        if is_secret(str(name)):
            raise UserError(f"{section}.{name} is a secret; {ADVICE}")
