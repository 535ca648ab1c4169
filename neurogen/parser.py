"""The argument parser of all commands but `run`, whose words Hydra reads."""

from __future__ import annotations

import argparse
from typing import NoReturn

from neurogen.errors import UserError


class Parser(argparse.ArgumentParser):
    """Refuses as all commands do: with a UserError, in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError; argparse would exit."""
        raise UserError(f"{message}; --help shows every option")
