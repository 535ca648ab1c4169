"""Parameter tokens in blocks: what a block sees, gradients that are computed again, what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neurogen.errors import UserError
from neurogen.generator import blocks
from neurogen.generator.blocks import read_in_blocks
from neurogen.generator.folder import load_generator, save_generator
from neurogen.generator.generator import Generator
from neurogen.generator.parts import ParameterTokens, TokenIds
from neurogen.generator.prompts import Prompt
from neurogen.training.runtime import Runtime
from tests.conftest import TINY_TEXT, Composed
from tests.generator.test_backbone import GPT2
from tests.generator.test_batches import generator_for, gradients, prompts_for
from tests.generator.test_lists import NAMED, TASK, generator_of
from tests.generator.test_lists import prompts as lists

SIZE = 37  # tokens of a block; the last one is shorter
OFF_ON = ("null", "20")
OF_GPT2 = ["backbone=causal_lm", "backbone.model=null", "backbone.random_seed=0", f"+backbone.architecture={GPT2}"]
BACKBONES = {
    "llama": [],
    "vision": ["backbone=tiny_qwen2_vl"],
    "gpt2": OF_GPT2,
    "texts": [*TINY_TEXT, "target.options.hidden=400"],
}


def in_blocks(
    experiment: Composed, runtime: Runtime, *overrides: str, size: int | None = SIZE
) -> tuple[Generator, list[Prompt]]:
    words = [f"generator.block_tokens={'null' if size is None else size}", *overrides]
    generator, dataset = generator_for(experiment(*words), runtime)
    return generator, prompts_for(generator, dataset)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_block_stands_directly_behind_the_prefix(experiment: Composed, runtime: Runtime, backbone: str) -> None:
    generator, prompts = in_blocks(experiment, runtime, *BACKBONES[backbone])
    (task,) = generator.tasks
    with torch.no_grad():
        sequences = generator.sequences(task, prompts)
        hidden = generator.hidden_states(sequences)
        for states, (*prefix, tokens) in zip(hidden, sequences, strict=True):
            assert isinstance(tokens, ParameterTokens)
            parts = tokens.vectors.split(SIZE)
            assert len(parts) > 1
            expected = [generator.backbone([[*prefix, ParameterTokens(part)]])[0][-1] for part in parts]
            torch.testing.assert_close(states, torch.cat(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["llama", "vision", "gpt2"])
def test_blocks_behind_nothing(experiment: Composed, runtime: Runtime, backbone: str) -> None:
    """A prompt without an instruction, samples and a chat's opening has no token before the parameters'."""
    generator, _ = in_blocks(experiment, runtime, *BACKBONES[backbone])
    tokens = ParameterTokens(torch.randn(2 * SIZE + 5, generator.backbone.hidden_size))
    nothing, something = (TokenIds(torch.tensor(ids, dtype=torch.int64)) for ids in ([], [5, 6, 7]))
    for prefixes in ([nothing], [nothing, something], [nothing, nothing]):
        with torch.no_grad():
            read = read_in_blocks(generator.backbone, [[prefix, tokens] for prefix in prefixes], SIZE)
            for states, prefix in zip(read, prefixes, strict=True):
                parts = tokens.vectors.split(SIZE)
                expected = [generator.backbone([[prefix, ParameterTokens(part)]])[0][-1] for part in parts]
                torch.testing.assert_close(states, torch.cat(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["llama", "vision"])
def test_a_single_block_is_what_there_is_without(experiment: Composed, runtime: Runtime, backbone: str) -> None:
    plain, prompts = in_blocks(experiment, runtime, *BACKBONES[backbone], size=None)
    (task,) = plain.tasks
    single, _ = in_blocks(experiment, runtime, *BACKBONES[backbone], size=plain.num_tokens(task))
    several, _ = in_blocks(experiment, runtime, *BACKBONES[backbone])
    with torch.no_grad():
        assert torch.equal(single(task, prompts), plain(task, prompts))
        assert not torch.allclose(several(task, prompts), plain(task, prompts), atol=1e-3)
    assert [generator.reads_again for generator in (plain, single, several)] == [False, False, True]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_of_blocks_that_are_computed_again(
    experiment: Composed, runtime: Runtime, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, prompts = in_blocks(experiment, runtime, *BACKBONES[backbone])
    (task,) = generator.tasks
    again = []
    read = blocks._read_block
    monkeypatch.setattr(blocks, "_read_block", lambda *given: again.append(1) or read(*given))

    def loss() -> list[Tensor]:
        z = generator(task, prompts)
        return [(z * torch.linspace(-1, 1, z.shape[1])).square().sum()]

    before = generator.backbone.num_tokens_read
    recomputed, num_read = gradients(generator, loss), len(again)
    num_tokens = generator.backbone.num_tokens_read - before
    monkeypatch.setattr(blocks, "checkpoint", lambda read, *given, **options: read(*given))
    kept = gradients(generator, loss)
    assert num_read == 2 * (len(again) - num_read)
    assert generator.backbone.num_tokens_read - before == 2 * num_tokens  # what is computed again is read once
    assert recomputed.keys() == kept.keys() == generator.trainables.keys()
    for name, gradient in kept.items():
        assert gradient.any(), name
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-5, atol=1e-6 * float(gradient.abs().max()))


def test_between_the_passes_only_the_inputs_of_blocks_are_kept(experiment: Composed, runtime: Runtime) -> None:
    """As autograd counts it, blocks or not."""

    def kept(size: int | None) -> int:
        generator, (prompt, *_) = in_blocks(experiment, runtime, size=size)
        (task,), saved = generator.tasks, dict[int, int]()

        held = {value.data_ptr() for value in generator.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in held:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            generator.hidden_states(generator.sequences(task, [prompt]))
        return sum(saved.values())

    assert kept(8) < 0.5 * kept(None)


def test_lists_of_classes_read_their_inner_tokens_in_blocks(experiment: Composed, runtime: Runtime) -> None:
    plain, several = (generator_of(experiment(*NAMED, f"generator.block_tokens={size}"), runtime) for size in OFF_ON)
    with torch.no_grad():
        before, after = (generator(TASK, lists(("one", "two")))[0] for generator in (plain, several))
    output = plain.tasks[TASK].layout.firsts[plain.tasks[TASK].layout.output[0]]
    assert torch.equal(before[output:], after[output:])
    assert not torch.allclose(before[:output], after[:output], atol=1e-3)


def test_a_folder_of_an_older_version_reads_all_tokens_at_once(
    experiment: Composed, runtime: Runtime, tmp_path: Path
) -> None:
    point = experiment("generator.block_tokens=37")
    generator, prompts = in_blocks(experiment, runtime)
    save_generator(generator, point.backbone, tmp_path)
    (task,) = generator.tasks
    with torch.no_grad():
        assert torch.equal(load_generator(tmp_path, runtime)(task, prompts), generator(task, prompts))
    described = json.loads((tmp_path / "generator.json").read_text())
    assert described["generator"].pop("block_tokens") == SIZE
    (tmp_path / "generator.json").write_text(json.dumps(described))
    assert load_generator(tmp_path, runtime).config.block_tokens is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["generator.order=tokens_first"],
            r"order=tokens_first does not put them there; set generator\.order=context_",
        ),
        (["generator.order=interleaved"], "order=interleaved does not put them there"),
        (["backbone.gradient_checkpointing=true"], r"set backbone\.gradient_checkpointing=false"),
        (["generator.block_tokens=0"], r"generator\.block_tokens=0 must be above 0"),
    ],
)
def test_what_blocks_cannot_do_is_one_line(experiment: Composed, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        experiment("generator.block_tokens=37", *words)
    assert "\n" not in str(error.value)


def test_only_a_block_needs_positions(experiment: Composed, runtime: Runtime) -> None:
    (several, prompts), (plain, _) = (in_blocks(experiment, runtime, size=size) for size in (SIZE, None))
    (task,) = plain.tasks
    with torch.no_grad():
        plain(task, prompts[:1])
        for generator in (plain, several):
            generator.backbone.positions = plain.backbone.num_tokens_read - 1
        several(task, prompts[:1])
        with pytest.raises(UserError, match=r"generator\.block_tokens=512"):
            plain(task, prompts[:1])
