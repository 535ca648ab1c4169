"""What networks can be generated: the command `neurogen targets`.

in:  the words that `neurogen run` takes, of which dataset=, backbone=, target= and generator.block_tokens= count
out: for every target of conf/target its parameters, the values of its buffers, its parameter tokens, and whether it can
     be generated for these data with this backbone; nothing is trained

    neurogen targets dataset=cifar10
    neurogen targets --help
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurogen.errors import UserError, errors_in_one_line

if TYPE_CHECKING:
    from neurogen.config import Experiment, TargetConfig
    from neurogen.data.preparation import DataShape
    from neurogen.generator.backbone import Backbone
    from neurogen.report.verdicts import Verdict

USAGE = """\
usage: neurogen targets [KEY=VALUE ...]

List the target networks with their parameters, the values of their buffers (statistics of normalisation layers) and
their parameter tokens, and say which of them can be generated, and why the others cannot. It takes the arguments of
`neurogen run`; data, backbone and generator.block_tokens decide.

  neurogen targets                                         for MNIST digits and SmolLM2-135M
  neurogen targets dataset=sst2 backbone=llama3_8b
  neurogen targets target=torchvision target.options.model=resnet50    one target, with its options

options:
  -h, --help  show this"""


def main() -> None:
    """The command: errors of the user's in one line, exit status 1."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return
    with errors_in_one_line():
        for word in words:
            if word.startswith("-"):
                raise UserError(f"{word} is no option here; --help shows those that are")
        show(words)


def show(words: Sequence[str]) -> None:
    """Print the table. Raises UserError as `compose` does, and where data or backbone cannot be had."""
    from neurogen.report.terminal import console_here, rich_table
    from neurogen.report.verdicts import targets
    from neurogen.run import compose
    from neurogen.targets.classifiers import names_of_models

    experiment = compose(words)
    is_named = any(word.startswith("target=") for word in words)
    chosen = {experiment.target.name: experiment.target} if is_named else configured()
    table, console = targets(listed(experiment, chosen)), console_here()
    title = f"{experiment.dataset.name} · {experiment.backbone.name}"
    console.print(rich_table(table, title))
    if any(target.build == "torchvision" for target in chosen.values()):
        console.print(f"target.options.model of torchvision: {', '.join(names_of_models())}", markup=False)


def configured() -> dict[str, TargetConfig]:
    """The targets of conf/target by what target= calls them."""
    from omegaconf import OmegaConf

    from neurogen.choices import conf_folder
    from neurogen.config import TargetConfig
    from neurogen.experiment import typed

    files = sorted(Path(conf_folder(), "target").glob("*.yaml"))
    return {file.stem: typed(TargetConfig, OmegaConf.load(file)) for file in files}


def listed(experiment: Experiment, targets: Mapping[str, TargetConfig]) -> list[Verdict]:
    """What becomes of these targets with the data and the backbone of an experiment."""
    import torch

    from neurogen.cost.meta import meta_backbone
    from neurogen.cost.reading import raw_size_of, shape_of

    size, _ = raw_size_of(experiment.dataset)
    shape = shape_of(experiment.dataset, size)
    backbone = meta_backbone(experiment.backbone, torch.bfloat16, attention=None)
    return [_listed(name, experiment, target, shape, backbone) for name, target in targets.items()]


def _listed(name: str, experiment: Experiment, target: TargetConfig, shape: DataShape, backbone: Backbone) -> Verdict:
    from neurogen.cost.meta import META
    from neurogen.cost.room import require_positions
    from neurogen.report.verdicts import Verdict
    from neurogen.targets.networks import build_network
    from neurogen.targets.parameters import ParameterLayout

    if target.modality != experiment.dataset.modality:
        return Verdict(name, reason=f"it classifies {target.modality}s")
    try:
        with META:
            layout = ParameterLayout.of(build_network(target, shape))
    except UserError as error:
        return Verdict(name, reason=str(error))
    in_buffers = sum(size for tensor, size in zip(layout.names, layout.sizes, strict=True) if tensor in layout.buffers)
    num_tokens, reason = len(layout.chunks(backbone.hidden_size)), ""
    try:
        require_positions(experiment, target, backbone, shape, ())
    except UserError as error:
        reason = str(error)
    return Verdict(name, layout.num_parameters - in_buffers, in_buffers, num_tokens, reason)


if __name__ == "__main__":
    main()
