"""Codes: those of a zoo, the networks that they tell apart, and what stays as it is without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurogen
from neurogen.errors import UserError
from neurogen.generator.context import Context
from neurogen.generator.folder import load_generator, save_generator
from neurogen.generator.generator import Generator
from neurogen.generator.latent import Components, draw_code
from neurogen.generator.losses import ZooMoments, injection_loss
from neurogen.generator.prompts import GENERIC, Prompt
from neurogen.generator.task import Task
from neurogen.generator.transfer import transferred
from neurogen.stages.inject import code_of_a_network
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import steps_of
from neurogen.study.results import Population
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.generator.test_batches import generator_for, gradients

LATENT = 2


def zoo_of(num_networks: int) -> Tensor:
    return torch.randn(num_networks, 50, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def coded(experiment: Composed, runtime: Runtime) -> tuple[Generator, str, Context]:
    """A generator whose codes change the tokens, and a context."""
    generator, dataset = generator_for(experiment(f"generator.latent={LATENT}"), runtime)
    with torch.no_grad():
        for name, value in generator.trainables.items():
            if name.startswith("latent_tokens"):
                value.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    (task,) = generator.tasks
    rng = torch.Generator().manual_seed(0)
    return generator, task, Context.sample(dataset.train, dataset.class_names, generator.config, rng)


def test_codes_have_mean_0_and_variance_1() -> None:
    codes = torch.tensor(Components.of(zoo_of(6), 5).codes)
    torch.testing.assert_close(codes.mean(0), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(codes.T @ codes / 6, torch.eye(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("latent", [1, 3, 5])
def test_with_all_components_a_code_is_a_network_of_the_zoo(latent: int) -> None:
    """With fewer, what is left is the variance that the loss of stage 1 ends at."""
    zoo = zoo_of(6)
    moments = ZooMoments.of(zoo, latent)
    assert moments.components is not None
    near = torch.stack([moments.at(code).mean for code in moments.components.codes])
    torch.testing.assert_close((zoo - near).square().mean(0), moments.variance, atol=1e-5, rtol=1e-4)
    pairs = zip(near, moments.components.codes, strict=True)
    losses = torch.stack([injection_loss(flat, moments.at(code)) for flat, code in pairs])
    torch.testing.assert_close(losses.mean(), (zoo - near).square().mean(), atol=1e-6, rtol=1e-5)
    assert (latent == 5) == torch.allclose(near, zoo, atol=1e-5)


def test_new_codes_differ_as_those_of_the_zoo_do() -> None:
    """Their networks have the mean and the covariance of the zoo."""
    zoo, rng = zoo_of(6), torch.Generator().manual_seed(0)
    components = Components.of(zoo, 5)
    offsets = torch.stack([components.offset(draw_code(5, rng) or ()) for _ in range(20_000)])
    torch.testing.assert_close(offsets.mean(0), torch.zeros(50), atol=0.05, rtol=0)
    torch.testing.assert_close(offsets.T @ offsets / len(offsets), zoo.T.cov(correction=0), atol=0.1, rtol=0)


def test_without_codes_nothing_is_drawn() -> None:
    rng = torch.Generator().manual_seed(0)
    assert draw_code(None, rng) is None
    assert torch.equal(torch.randn(3, generator=rng), torch.randn(3, generator=torch.Generator().manual_seed(0)))


def test_at_first_codes_change_nothing(experiment: Composed, runtime: Runtime) -> None:
    plain, coded = (generator_for(experiment(*words), runtime)[0] for words in ([], [f"generator.latent={LATENT}"]))
    (task,) = plain.tasks
    with torch.no_grad():
        before = plain(task, [Prompt(GENERIC, None)])[0]
        for code in (None, (1.0, -2.0)):
            assert torch.equal(coded(task, [Prompt(GENERIC, None, code=code)])[0], before)


def test_every_code_has_its_network(coded: tuple[Generator, str, Context]) -> None:
    generator, task, context = coded
    codes = [(0.0, 0.0), (1.0, 0.0), (-1.0, 2.0), None]
    prompts = [Prompt(GENERIC, given, code=code) for given in (None, context) for code in codes]
    with torch.no_grad():
        z = generator(task, prompts)
        (alone,) = generator(task, [prompts[2]])
    torch.testing.assert_close(z[2], alone, atol=1e-5, rtol=0)
    assert torch.pdist(z[:3]).min() > 0.01
    torch.testing.assert_close(z[0], z[3], atol=1e-5, rtol=0)  # no code is the middle one
    torch.testing.assert_close(z[4], z[7], atol=1e-5, rtol=0)


def test_equal_codes_are_read_once(coded: tuple[Generator, str, Context]) -> None:
    generator, task, _ = coded
    before = generator.backbone.num_tokens_read
    generator(task, [Prompt(GENERIC, None, code=(1.0, 0.0))] * 3)
    once = generator.backbone.num_tokens_read - before
    generator(task, [Prompt(GENERIC, None, code=(float(number), 0.0)) for number in range(3)])
    assert generator.backbone.num_tokens_read - before == 4 * once


@pytest.mark.parametrize(
    "words",
    [
        ["generator.block_tokens=37"],
        ["generator.order=interleaved", "generator.context_samples=10"],
        ["generator.order=tokens_first"],
        ["preset=relabel", "backbone.num_layers=2"],
    ],
    ids=lambda words: words[0],
)
def test_a_batch_reads_each_network_under_its_own_code(
    experiment: Composed, runtime: Runtime, words: list[str]
) -> None:
    generator, _ = generator_for(experiment(f"generator.latent={LATENT}", *words), runtime)
    (task,) = generator.tasks
    table = f"latent_tokens.tables.{task}.weight"
    torch.nn.init.normal_(generator.get_parameter(table), std=0.1)
    prompts = [Prompt(GENERIC, None, code=code) for code in ((1.0, 0.0), (0.0, 1.0))]
    with torch.no_grad():
        together = generator(task, prompts)
        alone = torch.cat([generator(task, [prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).norm() > 0.01
    assert gradients(generator, lambda: [generator(task, prompts).square().sum()])[table].norm() > 0


def test_a_folder_keeps_the_codes(
    coded: tuple[Generator, str, Context], experiment: Composed, runtime: Runtime, tmp_path: Path
) -> None:
    generator, task, context = coded
    folder, backbone = tmp_path / "generator", experiment(f"generator.latent={LATENT}").backbone
    save_generator(generator, backbone, folder)
    loaded = load_generator(folder, runtime)
    prompts = [Prompt(GENERIC, context, code=(1.0, 2.0))]
    with torch.no_grad():
        assert torch.equal(loaded(task, prompts), generator(task, prompts))


def test_a_new_target_takes_over_what_codes_mean(coded: tuple[Generator, str, Context], experiment: Composed) -> None:
    generator, name, _ = coded
    known, target = generator.tasks[name], experiment("target=cnn").target
    layout = ParameterLayout.of(build_network(target, known.shape))
    task = Task(
        known.dataset,
        target,
        known.class_names,
        known.shape,
        known.preparation,
        known.fingerprint,
        Scale.of_fan_in(layout, None),
        known.source_labels,
        None,
    )
    new = transferred(generator, task, seed=0)
    width = generator.backbone.hidden_size
    before = generator.get_parameter(f"latent_tokens.tables.{name}.weight")
    after = new.get_parameter(f"latent_tokens.tables.{task.name}.weight")
    assert after.shape == (len(layout.chunks(width)), LATENT, width)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[-1], before[-1])


def test_both_stages_give_networks_that_differ(experiment: Composed, runtime: Runtime) -> None:
    """Also from equal contexts; the same seed gives the same networks."""
    words = [f"generator.latent={LATENT}", "recipe.inject.contexts_per_step=3", "recipe.inject.steps=30"]
    coded, plain = (
        steps_of([experiment("generator.context_samples=0", "recipe.tune.steps=2", *given)]).evaluations[0]
        for given in (words, words[2:])
    )
    spreads = {}
    for name, step in (("coded", coded), ("plain", plain)):
        run_here(in_order(step), runtime)
        populations = step.result().populations
        spreads[name] = [populations[key].spread for key in (Population.AFTER_INJECT, Population.GENERATED)]
    assert min(spread or 0 for spread in spreads["coded"]) > 0.1
    assert max(spread or 0 for spread in spreads["plain"]) < 1e-4
    generator = neurogen.load(coded.tune.folder)
    first, second = generator.generate(num_networks=2)
    (again,) = generator.generate(num_networks=1)
    weights = [torch.cat([value.flatten() for value in each.parameters()]) for each in (first, second, again)]
    assert torch.equal(weights[0], weights[2])
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.parametrize(("count", "sizes"), [(3, {3}), (5, {5}), (7, {5})])
def test_the_contexts_of_a_step_match_different_networks(count: int, sizes: set[int]) -> None:
    """As far as there are so many; another step draws another order."""
    components = ZooMoments.of(zoo_of(5), 4).components
    assert components is not None
    for step_index in range(3):
        drawn = [code_of_a_network(components.codes, 0, step_index, index) for index in range(count)]
        assert {len(set(drawn))} == sizes
    orders = {tuple(code_of_a_network(components.codes, 0, step, index) for index in range(5)) for step in range(5)}
    assert len(orders) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generator.latent=8"], r"generator.latent=8 needs 9 reference networks, and zoo.num_networks is 3; set"),
        (["generator.latent=1", "zoo.num_networks=1"], r"zoo.num_networks is 1; set generator.latent=null, or zoo.num"),
        (["generator.latent=0"], r"generator.latent=0 must be above 0"),
        (
            ["recipe.inject.steps=0", "generator.latent=1"],
            r"generator.latent=1 is learned in stage 1; set recipe.inject",
        ),
        (["preset=named", "generator.latent=1"], r"generator.latent=1 tells whole networks apart, and dataset.ways"),
    ],
)
def test_what_codes_cannot_do_is_refused(experiment: Composed, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(*words)
