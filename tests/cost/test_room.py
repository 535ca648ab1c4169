"""A context that is longer than what the backbone was made to read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from neurogen.cost.room import require_room
from neurogen.data.dataset import load_images
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator
from neurogen.generator.loading import load_backbone
from neurogen.generator.parts import Embeddings
from neurogen.generator.task import Task
from neurogen.stages.conditioning import conditions_of, generate_under
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY, TINY_TEXT, Composed, Program, error_line
from tests.generator.test_usable import saved

POSITIONS = "+backbone.architecture.max_position_embeddings"


def longest(experiment: Composed, *overrides: str) -> int:
    """What the refusal of a backbone with few positions says."""
    with pytest.raises(UserError, match=r"would read \d+ tokens, and it has 8 positions; lower ") as caught:
        require_room(experiment(*overrides, f"{POSITIONS}=8"))
    (count,) = re.findall(r"would read (\d+) tokens", str(caught.value))
    return int(count)


@pytest.mark.parametrize("overrides", [(), ("generator.order=interleaved", "generator.context_samples=20")])
def test_what_fits_exactly_is_not_refused(experiment: Composed, overrides: tuple[str, ...]) -> None:
    count = longest(experiment, *overrides)
    require_room(experiment(*overrides, f"{POSITIONS}={count}"))
    with pytest.raises(UserError, match=f"would read {count} tokens, and it has {count - 1} positions"):
        require_room(experiment(*overrides, f"{POSITIONS}={count - 1}"))


def test_nothing_that_an_evaluation_reads_is_longer(experiment: Composed, runtime: Runtime) -> None:
    """Every condition, foreign instructions and samples included; one of them is as long as was said."""
    point = experiment()
    dataset = load_images(point.dataset)
    scale = Scale.of_fan_in(ParameterLayout.of(build_network(point.target, dataset.shape)), None)
    task = Task.of(dataset, point.dataset, point.target, scale)
    generator = build_generator(point.backbone, point.generator, [task], 0, runtime)
    rng = torch.Generator().manual_seed(0)
    lengths = []
    for condition in conditions_of(generator, task, {}):
        before = generator.backbone.num_tokens_read
        context = dataset.train.sample(4, rng)
        right = Context.of(dataset.train, dataset.class_names, context)
        generate_under([condition], [right], generator, task, 0, runtime)
        lengths.append(generator.backbone.num_tokens_read - before)
    assert max(lengths) <= longest(experiment)


def test_texts_count_as_long_as_they_may_be(experiment: Composed) -> None:
    short, long = (longest(experiment, *TINY_TEXT, f"dataset.text.max_tokens={count}") for count in (24, 34))
    assert long - short == 10 * experiment().generator.context_samples


def test_a_tokenizer_that_is_here_and_broken_is_not_guessed_at(experiment: Composed, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", sizes={"n_positions": 4096})
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"model holds no tokenizer that transformers can load"):
        require_room(experiment("backbone=causal_lm", f"backbone.model={folder}"))


def test_a_sequence_is_refused_where_it_is_read(experiment: Composed, runtime: Runtime) -> None:
    backbone = load_backbone(experiment(f"{POSITIONS}=16").backbone, runtime, 0)
    assert len(backbone([[Embeddings(torch.zeros(16, backbone.hidden_size))]])[0][0]) == 16
    with pytest.raises(UserError, match=r"the backbone would read 17 tokens, and it has 16 positions"):
        backbone([[Embeddings(torch.zeros(length, backbone.hidden_size))] for length in (3, 17)])


def test_a_short_model_is_refused_before_a_zoo_is_trained(program: Program, tmp_path: Path) -> None:
    saved(tmp_path / "model", sizes={"n_positions": 64})
    line = error_line(program("run", *TINY, "backbone=causal_lm", "backbone.model=model"))
    assert re.search(r"backbone model: the backbone would read \d+ tokens, and it has 64 positions; lower", line), line
    assert not list(tmp_path.glob("runs/*/*"))
