"""Generate networks with a finished generator, on the command line: samples in, files of networks out.

    python -m neurogen.generate generator=runs/tune/FOLDER out=lenet.safetensors test=own
    python -m neurogen.generate --help

The same from Python: `neurogen.load(FOLDER).generate(samples, labels)`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurogen.config.schema import unknown_value
from neurogen.errors import UserError, advising, errors_in_one_line, saying_what_saves_memory
from neurogen.parser import Parser
from neurogen.store import Unwritable
from neurogen.streams import make_lasting

if TYPE_CHECKING:
    from neurogen.api.classifier import Classifier
    from neurogen.api.generator import LoadedGenerator
    from neurogen.data.dataset import Split
    from neurogen.targets.prediction import Batches

SUFFIXES = (".safetensors", ".pt2")
OWN_DATA = "own"  # --test own: the test split of the dataset that the generator was trained on
ELSEWHERE = "free some space or give another out=FILE"

HELP = {
    "generator": "the folder of a finished tune (or inject) step, or OWNER/NAME on the Hub",
    "instruction": "what to generate; left out: the instruction that the generator was tuned with",
    "samples": "what it reads, as many of it as it was tuned with: pictures PATH/CLASS/*.png, or a table of texts and "
    "labels (.csv, .tsv, .jsonl, .parquet) with the columns of its dataset; left out: training samples of its dataset",
    "classes": "names of the classes to tell apart, with commas between them, for a generator that reads such lists: "
    '"sneakers, handbags, the digit seven"; those that samples=PATH has are shown by these, in PATH/NAME/*.png',
    "test": "measure the accuracy on the test split of its own dataset, or on pictures or a table as above",
    "out": "NAME.safetensors has the parameters by name; NAME.pt2 is a program that reads raw images or token ids and "
    "needs torch alone; default: %(default)s",
    "num-networks": "that many networks from that many contexts, into FILE-0 … FILE-(N-1); default: %(default)s",
    "task": "which of its tasks, where it knows several and the instruction does not say",
    "seed": "which samples are drawn, and which code with generator.latent; default: %(default)s",
    "device": "default: %(default)s",
    "num-threads": "of the CPU; default: one per core",
}
EPILOG = """\
Every option can also be given as KEY=VALUE:
    python -m neurogen.generate generator=FOLDER num_networks=8 instruction="A LeNet for MNIST, please"
    python -m neurogen.generate generator=FOLDER classes="nought, VII, the digit three" test=own
    python -m neurogen.generate generator=FOLDER classes="sneakers, ka, ki" samples=PICTURES
"""


def main() -> None:
    """The command: errors of the user's in one line, exit status 1."""
    make_lasting()
    with errors_in_one_line():
        if not sys.argv[1:]:
            build_parser().print_help()
            sys.exit(2)
        request = parse(sys.argv[1:])
        with saying_what_saves_memory("neurogen generate", "free some, or give fewer samples or num_networks"):
            write_networks(request)


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="neurogen generate",
        description="Generate the parameters of a network in one forward pass of a finished generator.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add(name: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", help=HELP[name], **options)

    add("generator", metavar="FOLDER")
    add("instruction", metavar="TEXT")
    add("classes", metavar="NAMES")
    add("samples", metavar="PATH", type=Path)
    add("test", metavar="own|PATH")
    add("out", metavar="FILE", type=Path, default=Path("network.safetensors"))
    add("num-networks", metavar="N", type=int, default=1)
    add("task", metavar="NAME")
    add("seed", metavar="N", type=int, default=0)
    add("device", choices=("auto", "cpu", "cuda"), default="auto")
    add("num-threads", metavar="N", type=int, default=0)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options and KEY=VALUE words → what to do. Raises UserError for what makes no sense."""
    parser = build_parser()
    keys = list(vars(parser.parse_args([])))
    request = parser.parse_args(list(as_options(arguments, keys)))
    if request.generator is None:
        raise UserError("generator=FOLDER is missing: give the folder of a finished tune step")
    if request.num_networks < 1:
        raise UserError(f"num_networks={request.num_networks} must be at least 1")
    if request.out.suffix not in SUFFIXES:
        raise UserError(f"out={request.out} must end in {' or '.join(SUFFIXES)}")
    return request


def as_options(words: Sequence[str], keys: Sequence[str]) -> Iterator[str]:
    """KEY=VALUE → --key=VALUE; a word behind an option is its value and stays as it is.

    Values are taken as they stand: an instruction may hold any character. Raises UserError for an unknown key.
    """
    value_follows = False
    for word in words:
        key, equals, value = word.partition("=")
        if value_follows or word.startswith("-"):
            value_follows = word.startswith("--") and not equals and not value_follows
            yield word
        elif not equals:
            raise UserError(f"{word} is no KEY=VALUE, without blanks around the =; allowed: {', '.join(keys)}")
        elif key not in keys:
            raise UserError(unknown_value(key, key, keys))
        else:
            yield f"--{key.replace('_', '-')}={value}"


def write_networks(request: argparse.Namespace) -> None:
    """Write the networks; print what was understood and how good they are."""
    from neurogen.api.generator import choose_task, load
    from neurogen.targets.prediction import Batches

    generator = load(request.generator, device=request.device, num_threads=request.num_threads)
    task, reason = choose_task(generator.module.tasks, request.instruction, request.task)
    if request.classes is not None or generator.module.tasks[task].lists_classes:
        write_named(request, generator, task)
        return
    samples, split = splits_of(request, generator, task)
    test = None if split is None else Batches(split, generator.module.backbone.device)
    about = generator.module.tasks[task]
    print(f"task         {task}: {about.layout.num_parameters:,} parameters; {reason}")
    print(f"instruction  {about.instruction if request.instruction is None else request.instruction}")
    networks = generator.iterate(samples, request.instruction, task, request.num_networks, request.seed)
    for path in paths_of(request.out, request.num_networks):
        started = time.perf_counter()
        network = next(networks)
        seconds = time.perf_counter() - started
        with advising(Unwritable, ELSEWHERE):
            network.save(path)
        print(f"network      {path}  {summary(network, seconds, test)}", flush=True)


def write_named(request: argparse.Namespace, generator: LoadedGenerator, task: str) -> None:
    """Write the network for a list of classes; print what every name was taken for, and what is doubtful."""
    from neurogen.api.few_shot import contradictions
    from neurogen.api.names import doubts, listed, samples_of

    if request.num_networks != 1:
        raise UserError("a list of classes makes one network; leave out num_networks=")
    about = generator.module.tasks[task]
    names = listed(_classes(request), about)
    support = None if request.samples is None else generator.reader(task, names).read(request.samples)
    started = time.perf_counter()
    network = generator.listed(names, support, request.instruction, task)
    seconds = time.perf_counter() - started
    assert network.prompt is not None
    test = None
    if request.test == OWN_DATA:
        test = samples_of(generator.dataset(task).test, network.class_names, about)
    elif request.test is not None:
        test = network.reader.read(Path(request.test))
    with advising(Unwritable, ELSEWHERE):
        network.save(request.out)
    print(f"instruction  {network.prompt.instruction}")
    width = max(map(len, names))
    for reading in network.prompt.readings:
        print(f"class        {reading.name:{width}}  taken for {reading.taken_for} ({100 * reading.probability:.0f} %)")
    for each in network.prompt.support:
        print(f"class        {each.name:{width}}  shown by {each.num_samples} samples")
    print(f"network      {request.out}  {summary(network, seconds, test)}", flush=True)
    for line in [*doubts(network.prompt.readings, about), *contradictions(network.prompt.support)]:
        print(f"warning: {line}", file=sys.stderr)


def _classes(request: argparse.Namespace) -> str | Sequence[str] | None:
    """The names that were given; where there are none, those of the folders with samples."""
    from neurogen.api.names import FEWEST
    from neurogen.data.folders import list_pictures

    if request.classes is None and request.samples is not None:
        shown = list_pictures(request.samples, "samples").class_names
        if len(shown) < FEWEST:
            raise UserError(
                f"samples={request.samples} shows {shown[0]} alone; show at least {FEWEST} classes, or name others as "
                "classes=NAME,NAME"
            )
        return shown
    given: str | None = request.classes
    return given


def splits_of(request: argparse.Namespace, generator: LoadedGenerator, task: str) -> tuple[Split, Split | None]:
    """(what contexts are drawn from, what the accuracy is measured on)."""
    reader = generator.reader(task)
    knows_data = request.samples is None or request.test == OWN_DATA
    dataset = generator.dataset(task) if knows_data else None
    samples = dataset.train if dataset and request.samples is None else reader.read(request.samples)
    if dataset and request.test == OWN_DATA:
        return samples, dataset.test
    return samples, None if request.test is None else reader.read(Path(request.test))


def summary(network: Classifier, seconds: float, test: Split | Batches | None) -> str:
    """What the network was generated from, how long that took, and how good it is."""
    assert network.prompt is not None
    origin = f"from samples of {', '.join(network.prompt.labels) or 'nothing'}"
    if network.prompt.readings or network.prompt.support:
        sources = ("names", network.prompt.readings), ("samples", network.prompt.support)
        origin = f"from {' and '.join(name for name, used in sources if used)} alone"
    parts = [origin, f"{seconds:.2f} s"]
    if test is not None:
        parts.append(f"test accuracy {100 * network.accuracy_on(test):.2f} % (n = {len(test.labels)})")
    return "; ".join(parts)


def paths_of(out: Path, num_networks: int) -> list[Path]:
    """One file for one network; numbered ones for several."""
    if num_networks == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{index}") for index in range(num_networks)]


if __name__ == "__main__":
    main()
