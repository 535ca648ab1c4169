"""The command line before Hydra reads it: short forms that Hydra does not have, and what older versions had.

in:  the words of the command line, the program's name first
out: the words for Hydra

Raises UserError for words that have no meaning any more, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurogen.errors import UserError

SLURM = "hydra/launcher=slurm"
CHOOSERS = {"point=": "points", "variant=": "variants"}  # of a study, by their keys below hydra.sweeper.only

REMOVED = {
    "cell=": "a study names its points, and point=NAME,NAME chooses among them: -m +study=table1_small "
    "point=digits-cnn,digits-lenet; without a study give dataset= and target=",
    "scale=": "name the backbone: backbone=smollm2_135m, or qwen2_vl_7b for images and llama3_8b for texts",
    "study=": "a study of conf/study is +study=NAME, and the name of a sweep's folder study_name=NAME",
}


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """What Hydra is to read."""
    is_sweep = bool({"-m", "--multirun"} & set(arguments))
    if is_sweep and any(word == "-c" or word.startswith("--cfg") for word in arguments):
        raise UserError("--cfg shows the config of one point; leave out -m and give every key one value")
    words = with_study(arguments, is_sweep)
    return with_cluster(with_launcher(words) if is_sweep else words)


def with_study(arguments: Sequence[str], is_sweep: bool) -> list[str]:
    """`+experiment=NAME` is `+study=NAME`; `point=` and `variant=` choose among the points and variants of a study."""
    words = []
    for word in arguments:
        for start, instead in REMOVED.items():
            if word.startswith(start):
                raise UserError(f"{word}: the config has no {start[:-1]}; {instead}")
        for start, members in CHOOSERS.items():
            if word.startswith(start):
                if not is_sweep:
                    raise UserError(f"{word} chooses among the {members} of a study: add -m and +study=NAME")
                word = f"hydra.sweeper.only.{members}=[{word.removeprefix(start)}]"
        words.append(word.replace("+experiment=", "+study=", 1) if word.startswith("+experiment=") else word)
    return words


def with_launcher(arguments: Sequence[str]) -> list[str]:
    """A sweep is one graph with one table; Hydra's own launcher would run one point after the other."""
    if any(word.startswith("hydra/launcher=") for word in arguments):
        return list(arguments)
    overrides = (index for index, word in enumerate(arguments) if index and "=" in word and word[0] != "-")
    index = next(overrides, len(arguments))  # among the others: Hydra takes them in one block
    return [*arguments[:index], "hydra/launcher=local", *arguments[index:]]


def with_cluster(arguments: Sequence[str]) -> list[str]:
    """SLURM means conf/cluster/a100.yaml where no cluster is named: said here, since a launcher's file cannot choose
    the file of another group."""
    if SLURM not in arguments or any(word.startswith("cluster=") for word in arguments):
        return list(arguments)
    index = arguments.index(SLURM)
    return [*arguments[:index], "cluster=a100", *arguments[index:]]
