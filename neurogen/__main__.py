"""The command `neurogen`, which is `python -m neurogen`: one name for all entry points.

neurogen run target=cnn
neurogen generate --help
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

from neurogen.streams import make_lasting

COMMANDS = {
    "run": "run an experiment, or a study of many",
    "generate": "generate networks with a finished generator",
    "status": "what ran, runs and failed of a sweep",
    "aggregate": "make the tables of a sweep again",
    "fetch": "bring here what a run or a study reads from outside; takes the arguments of run",
    "check": "see whether the nodes of a cluster have what a study needs; takes the arguments of run",
    "data": "what is read of a dataset, what is left out, and what it looks like",
    "targets": "which networks can be generated, their parameters and tokens",
}
MODULES = {
    "data": "preview",
    "targets": "catalogue",
    "fetch": "run",
    "check": "run",
}  # where a command's module has another name
USAGE = {
    "fetch": """\
usage: neurogen fetch [-m] [GROUP=NAME ...] [KEY=VALUE ...]

Bring here the data and models that a run or a study reads from outside, say where they lie, and do nothing else.
Interrupted, the same command goes on. Arguments are those of neurogen run.""",
    "check": """\
usage: neurogen check [GROUP=NAME ...] [KEY=VALUE ...] hydra/launcher=slurm

Submit the site check alone, wait for it, and say what the nodes lack. Exit status 0: they have all that a study with
these arguments needs; 1: they do not. Arguments are those of neurogen run.""",
}
WORDS = {"fetch": ["stop_after=fetch"], "check": ["-m", "stop_after=check"]}  # what such a command adds


def main() -> None:
    """Hand the rest of the command line to the entry point that its first word names."""
    make_lasting()
    command, *arguments = sys.argv[1:] or [""]
    if command == "--version":
        print(f"neurogen {version('neurogen')}")
        return
    if command not in COMMANDS:
        is_help = command in ("-h", "--help")
        print(usage(), file=sys.stdout if is_help else sys.stderr)
        if not is_help:
            print(f"error: {command or 'nothing'} is no command", file=sys.stderr)
        sys.exit(0 if is_help else 2)
    if command in USAGE and {"-h", "--help"} & set(arguments):
        print(USAGE[command])
        return
    sys.argv = [f"neurogen {command}", *arguments, *WORDS.get(command, [])]
    import_module(f"neurogen.{MODULES.get(command, command)}").main()


def usage() -> str:
    """The commands, one a line."""
    lines = [f"  neurogen {name:10} {purpose}" for name, purpose in COMMANDS.items()]
    end = "neurogen COMMAND --help says the rest, neurogen --version the version"
    return "\n".join(["usage: neurogen COMMAND ...", "", *lines, "", end])


if __name__ == "__main__":
    main()
