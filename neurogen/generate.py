"""Generate networks with a finished generator: an instruction and a few samples in, safetensors files out.
This is the door, which answers at once; the work is done in generation.py.

    python -m neurogen.generate generator=runs/tune/FOLDER out=lenet.safetensors test=own
    python -m neurogen.generate --help
"""

from __future__ import annotations

import sys
from dataclasses import fields

from neurogen.config import Request
from neurogen.errors import UserError, errors_in_one_line
from neurogen.experiment import typed

HELP = """Generate the parameters of a network in one forward pass of a finished generator.

    python -m neurogen.generate generator=FOLDER [KEY=VALUE ...]

  generator=FOLDER     the folder of a finished tune (or inject) step, as neurogen.run prints it
  instruction=TEXT     what to generate; of several tasks the one whose network and data it mentions. Left out: the
                       instruction that the generator was tuned with
  samples=PATH         what it reads, a few of it (as many as it was tuned with): images PATH/CLASS/*.png, or a table
                       of texts and labels (.csv, .tsv, .jsonl, .parquet) with the columns of its dataset;
                       left out: training samples of its own dataset
  test=own|PATH        measure the accuracy: on the test split of its own dataset, or on images or a table as above
  out=FILE             where to write; default network.safetensors
  num_networks=N       N networks from N contexts, into FILE-0 … FILE-(N-1); default 1
  task=NAME            which of its tasks, where the generator knows several and the instruction does not say
  seed=N               which samples are drawn; default 0
  device=auto|cpu|cuda, num_threads=N
"""


def main() -> None:
    if not sys.argv[1:] or set(sys.argv[1:]) & {"-h", "--help"}:
        print(HELP, end="")
        sys.exit(0 if sys.argv[1:] else 2)
    with errors_in_one_line():
        request = parse(sys.argv[1:])
        from neurogen.generation import generate

        generate(request)


def parse(arguments: list[str]) -> Request:
    """KEY=VALUE words → Request. Values are taken as they stand: an instruction may hold any character."""
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    bare = [word for word in arguments if "=" not in word]
    if bare:
        allowed = ", ".join(item.name for item in fields(Request))
        raise UserError(f"{bare[0]} is no KEY=VALUE; keys: {allowed}; a value with spaces needs quotes")
    if "generator" not in given:
        raise UserError("generator=FOLDER is missing: give the folder of a finished tune step")
    request = typed(Request, {key: value.replace("${", "\\${") for key, value in given.items()})
    if request.num_networks < 1:
        raise UserError(f"num_networks={request.num_networks} must be at least 1")
    if not request.out.endswith(".safetensors"):
        raise UserError(f"out={request.out} must end in .safetensors")
    return request


if __name__ == "__main__":
    main()
