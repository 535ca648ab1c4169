"""The rules for generator.latent, which joins several settings.

in:  an experiment
out: nothing, or a UserError
"""

from __future__ import annotations

from neurogen.config.experiment import Experiment
from neurogen.errors import UserError


def check_latent(e: Experiment) -> None:
    """Codes are those of the networks of a zoo, and of whole networks."""
    latent = e.generator.latent
    if latent is None:
        return
    given = f"generator.latent={latent}"
    if latent >= e.zoo.num_networks:
        most = e.zoo.num_networks - 1
        raise UserError(
            f"{given} needs {latent + 1} reference networks, and zoo.num_networks is {e.zoo.num_networks}; set "
            f"generator.latent={most or 'null'}{' at most' if most else ''}, or zoo.num_networks={latent + 1}"
        )
    if e.recipe.inject.is_left_out:
        raise UserError(f"{given} is learned in stage 1; set recipe.inject.steps, or generator.latent=null")
    if e.dataset.ways is not None:
        raise UserError(
            f"{given} tells whole networks apart, and dataset.ways lists the rows of each by their names; set "
            "generator.latent=null"
        )
