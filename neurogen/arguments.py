"""The command line before Hydra reads it: short forms that Hydra does not have, and what older versions had.

in:  the words of the command line, the program's name first
out: the words for Hydra

Raises UserError for words that have no meaning any more, with what to write instead.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from neurogen.errors import UserError

ANY = ("VALUE",)  # of a flag: whatever follows it
FLAGS: dict[str, tuple[str, ...]] = {  # Hydra's, with the values that each takes
    **dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"), ()),
    **dict.fromkeys(("--shell-completion", "-sc"), ()),
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")),
    **dict.fromkeys(("--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"), ANY),
    "--experimental-rerun": ANY,
}
SHOWING = {"-h", "--help", "-c", "--cfg", "-i", "--info"}  # what runs nothing
VALUE_LEFT_OUT = ("--info", "-i")  # in this case they mean the first
SLURM, LOCAL = "hydra/launcher=slurm", "hydra/launcher=local"
FETCHES_ONLY = {"stop_after=fetch"}
CHOOSERS = {"point=": "points", "variant=": "variants"}  # of a study, by their keys below hydra.sweeper.only
# A key of a dictionary in conf/cluster, also one that it does not have yet.
RESOURCES = ("nodes", "tasks_per_node", "gpus_per_node", "cpus_per_task", "mem_gb", "timeout_min")
PLACES = ("partition", "account", "qos", "constraint")
MEMBER = re.compile(
    rf"\+?(?=cluster\.(?:steps\.\w+\.(?:{'|'.join(RESOURCES + PLACES)})|(?:environment|additional)\.[^.=]+)=)"
)

REMOVED = {
    "cell=": "a study names its points, and point=NAME,NAME chooses among them: -m +study=table1_small "
    "point=digits-cnn,digits-lenet; without a study give dataset= and target=",
    "scale=": "name the backbone: backbone=smollm2_135m, or qwen2_vl_7b for images and llama3_8b for texts",
    "study=": "a study of conf/study is +study=NAME, and the name of a sweep's folder study_name=NAME",
}


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """What Hydra is to read: the program's name, the flags, the overrides."""
    flags, overrides = split(arguments[1:])
    is_sweep = asks_for_sweep(flags)
    if is_sweep and any(word == "-c" or word.startswith("--cfg") for word in flags):
        raise UserError("--cfg shows the config of one point; leave out -m and give every key one value")
    words = with_study(last_of_each(with_members(overrides)), is_sweep)
    shows_only = bool({word.partition("=")[0] for word in flags} & SHOWING)
    if not is_sweep and not shows_only and not FETCHES_ONLY & set(words):
        refuse_launcher(words)
    studies = [word for word in words if word.startswith("+study=")]
    if studies and not is_sweep and not shows_only:
        print(f"  {studies[0]} without -m is a single run in its settings; add -m for its experiments", file=sys.stderr)
    return [*arguments[:1], *flags, *with_cluster(with_launcher(words) if is_sweep else words)]


def refuse_launcher(arguments: Sequence[str]) -> None:
    """Hydra does not ask a launcher for a single run, which would go on here: on a login node. Raises UserError."""
    for word in arguments:
        if word.startswith("hydra/launcher=") and word != LOCAL:
            raise UserError(f"{word} needs -m, for a single experiment too: without -m a run is done here, at once")


def asks_for_sweep(flags: Sequence[str]) -> bool:
    """Whether Hydra is to run several experiments."""
    return bool({"-m", "--multirun"} & set(flags))


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags with their values, and overrides, wherever they stand. Raises UserError for a flag that Hydra has not."""
    flags, overrides, rest = list[str](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, equals, value = word.partition("=")
        if name not in FLAGS:
            raise UserError(_unknown_flag(name))
        flags.append(word)
        if not equals and rest and _is_value(name, rest[0]):
            value = rest.pop(0)
            flags.append(value)
        if not _is_value(name, value):
            allowed = ", ".join(FLAGS[name]) or "nothing"
            raise UserError(f"{name} is given {value or 'nothing'}; allowed: {allowed}")
    return flags, overrides


def _is_value(flag: str, value: str) -> bool:
    """Whether the flag may be followed by this value; '' where it is followed by none."""
    if not value:
        return flag in VALUE_LEFT_OUT or not FLAGS[flag]
    return value in FLAGS[flag] or (FLAGS[flag] == ANY and not value.startswith("-"))


def _unknown_flag(name: str) -> str:
    near = get_close_matches(name, FLAGS, n=1)
    question = f"did you mean {near[0]}? " if near else ""
    return f"{name} is no flag; {question}settings are written without dashes, KEY=VALUE: {name.lstrip('-')}=VALUE"


def last_of_each(overrides: Sequence[str]) -> list[str]:
    """One word per key, the last; says so where that leaves out another value."""
    kept: dict[str, str] = {}
    for word in overrides:
        key = word.partition("=")[0]
        earlier = kept.pop(key, word)
        if earlier != word:
            print(f"  {earlier.lstrip('+')} does not count, since {word.lstrip('+')} comes after it", file=sys.stderr)
        kept[key] = word
    return list(kept.values())


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


def with_members(overrides: Sequence[str]) -> list[str]:
    """A kind of step may ask for what its file in conf/cluster does not name, which Hydra would add only with ++."""
    return [MEMBER.sub("++", word, count=1) if MEMBER.match(word) else word for word in overrides]


def with_launcher(arguments: Sequence[str]) -> list[str]:
    """A sweep is one graph with one table; Hydra's own launcher would run one point after the other."""
    is_named = any(word.startswith("hydra/launcher=") for word in arguments)
    return list(arguments) if is_named else [LOCAL, *arguments]


def with_cluster(arguments: Sequence[str]) -> list[str]:
    """SLURM means conf/cluster/a100.yaml where no cluster is named: said here, since a launcher's file cannot choose
    the file of another group."""
    if SLURM not in arguments or any(word.startswith("cluster=") for word in arguments):
        return list(arguments)
    index = arguments.index(SLURM)
    return [*arguments[:index], "cluster=a100", *arguments[index:]]
