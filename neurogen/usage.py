"""What `neurogen run --help` shows.

in:  the groups of conf/ with the names of their files
out: the text; nothing is composed for it, since Hydra takes longer to look into all groups than to do everything else
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 110  # columns
INTRODUCTION = """\
usage: neurogen run [-m] [GROUP=NAME ...] [KEY=VALUE ...]

A language model generates the parameters of a small neural network. Without arguments: SmolLM2-135M generates a
LeNet for MNIST digits.

  python -m neurogen.run dataset=rotten_tomatoes                         # an MLP for film reviews; target=rnn: an RNN
  python -m neurogen.run dataset=digits target=cnn_small seed=1
  python -m neurogen.run -m dataset=digits,mnist5k dataset.resize=28     # two experiments, one table
  python -m neurogen.run -m +study=table1_small                          # a study: the experiments that its file lists
  python -m neurogen.run dataset=sst2 backbone=llama3_8b dry_run=true    # memory and time; runs nothing
  python -m neurogen.run --cfg job --resolve                             # every key with its value; runs nothing

An experiment takes one file of every group of conf/; that of a study takes a + before it:
"""
END = """
  hydra/launcher
      local, slurm: where the experiments of a sweep run

options:
  -m, --multirun  a sweep: values with commas between them give an experiment each
  --cfg job       show the experiment that the other arguments describe
  --hydra-help    the flags of Hydra, which reads the arguments
  -h, --help      show this

python -m neurogen.generate --help says how to use a finished generator."""


def usage(groups: Mapping[str, Sequence[str]]) -> str:
    """The whole text."""
    listed = []
    for group, names in sorted(groups.items()):
        if names:
            indent = 6 * " "
            lines = textwrap.fill(", ".join(names), WIDTH, initial_indent=indent, subsequent_indent=indent)
            listed += [f"  {group}", lines]
    return "\n".join([INTRODUCTION, *listed]) + END
