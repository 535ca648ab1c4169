"""A network in a file: its parameters alone, or a program that runs where only torch is installed.

NAME.safetensors  the parameters of the target by name, for `load_state_dict` of any module with these tensors
NAME.pt2          a torch.export program, raw samples → logits [samples, classes], with any number of samples
                  images: bytes (uint8) [samples, channels, height, width]; the normalisation is inside
                  texts:  token ids (int64) [samples, max_tokens], −1 behind the end of a text; the embedding is inside

    program = torch.export.load("lenet.pt2").module()
    logits = program(images)

Inside is about.json: the classes in the order of the logits, what the program takes, whose tokenizer makes its token
ids.

    torch.export.load("lenet.pt2", extra_files=(about := {"about.json": ""}))
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurogen import store
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError, one_line
from neurogen.targets.networks import LastState, is_token

if TYPE_CHECKING:
    from neurogen.api.classifier import Classifier

SUFFIXES = (".safetensors", ".pt2")
ABOUT = "about.json"  # in the program's file
EXAMPLES = 2  # of the samples that a program is traced with; torch.export takes a batch of 1 for a constant


def save_network(network: Classifier, path: Path) -> None:
    """Write the network in the form that the suffix asks for.

    Raises UserError for another suffix, a network that cannot be exported, and a file that cannot be written.
    """
    if path.suffix == ".safetensors":
        tensors = {name: value.clone() for name, value in network.network.state_dict().items()}  # some may be tied
        store.write_tensors(path, tensors, origin_of(network))
    elif path.suffix == ".pt2":
        program, about = exported(network), {ABOUT: json.dumps(about_program(network), indent=1)}
        store.write_file(path, lambda temporary: torch.export.save(program, temporary, extra_files=about))
    else:
        raise UserError(f"{path} must end in {' or '.join(SUFFIXES)}")


def exported(network: Classifier) -> torch.export.ExportedProgram:
    """The preparation and the network as one program on the CPU. Raises UserError where torch cannot export it."""
    modules = copy.deepcopy([network.preparation, network.network])  # which stay on their device
    modules = [Unrolled(part) if isinstance(part, LastState) else part for part in modules]
    program = nn.Sequential(*modules).cpu().eval()
    batch = {0: torch.export.Dim("samples")}
    try:
        return torch.export.export(program, (example(network),), dynamic_shapes=(batch,))
    except RuntimeError as error:
        raise UserError(f"torch cannot export this target ({one_line(error)}); write NAME.safetensors") from error


def example(network: Classifier) -> Tensor:
    """Two samples of the shape that the program takes."""
    shape = network.reader.shape
    if isinstance(shape, ImageShape):
        return torch.zeros(EXAMPLES, shape.channels, shape.height, shape.width, dtype=torch.uint8)
    assert network.reader.dataset.text is not None
    return torch.zeros(EXAMPLES, network.reader.dataset.text.max_tokens, dtype=torch.int64)


def origin_of(network: Classifier) -> dict[str, str]:
    """Where the parameters come from: the dataset, and for a generated network its target and instruction."""
    about = {"dataset": network.reader.dataset.name}
    if network.prompt is not None:
        about |= {"target": network.prompt.target, "instruction": network.prompt.instruction}
    return about


def about_program(network: Classifier) -> dict[str, Any]:
    """The classes in the order of the logits, what the program takes, and where its parameters come from."""
    takes = example(network)
    form = {"type": str(takes.dtype).removeprefix("torch."), "shape": ["samples", *takes.shape[1:]]}
    about: dict[str, Any] = {"classes": list(network.class_names), "takes": form}
    if network.reader.tokenizer_name is not None:
        about["tokenizer"] = network.reader.tokenizer_name
    return about | origin_of(network)


class Unrolled(nn.Module):
    """LastState token by token. torch exports its fused loop only for a fixed number of samples."""

    def __init__(self, network: LastState) -> None:
        super().__init__()
        self.recurrent, self.output = network.recurrent, network.output

    def forward(self, texts: Float[Tensor, "batch tokens embedding"]) -> Float[Tensor, "batch classes"]:
        """Padding at the end of a text leaves the state as it is."""
        state = texts.new_zeros(texts.shape[0], self.recurrent.hidden_size)  # len() would fix the number
        for place, token in enumerate(is_token(texts).unbind(1)):
            state = torch.where(token.unsqueeze(1), self.recurrent(texts[:, place], state), state)
        logits: Tensor = self.output(state)
        return logits
