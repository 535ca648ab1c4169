"""A target with statistics, dropout and a tied tensor through both stages, to its table and into the user's hands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import neurogen
from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.rng import rng_of
from neurogen.study.execution import in_order, run_here
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Evaluate
from neurogen.study.results import Population
from neurogen.targets.normalisation import recalibrated
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.prediction import Batches, evaluate_network
from neurogen.targets.zoo import load_zoo, network_path
from neurogen.training.runtime import runtime_here
from tests.conftest import Composed
from tests.targets.normalised import Tied

RECALIBRATED = (
    *(Population.ZOO_MEAN_RECALIBRATED, Population.AFTER_INJECT_RECALIBRATED, Population.GENERATED_RECALIBRATED),
)
BUILD = ("target.build=tests.targets.normalised.tied", "target.version=1", "target.options.channels=[4]")


@pytest.fixture(scope="module")
def planned(shared_experiment: Composed) -> Experiment:
    return shared_experiment(*BUILD, "evaluate.recalibrate=32", "recipe.inject.steps=3", "recipe.tune.steps=3")


@pytest.fixture(scope="module")
def evaluation(planned: Experiment) -> Evaluate:
    """The last step before the tables, done."""
    (evaluation,) = steps_of([planned]).evaluations
    run_here(in_order(evaluation), runtime_here("cpu", 1))
    return evaluation


def test_recalibrated_networks_stand_beside_the_plain_ones(planned: Experiment, evaluation: Evaluate) -> None:
    populations = evaluation.result().populations
    assert [len(populations[name].accuracy) for name in RECALIBRATED] == [2, 2, 2]
    assert populations[Population.GENERATED_RECALIBRATED] != populations[Population.GENERATED]
    dataset = load_images(planned.dataset)
    network = Tied(dataset.shape).eval()
    mean = load_zoo(evaluation.zoo, dataset, network).mean(0)
    rng = rng_of(evaluation.seed, "evaluate", 1)  # of the second context
    samples = dataset.train.inputs(dataset.train.sample(len(dataset.train), rng)[:32])
    values = recalibrated(network, ParameterLayout.of(network).tensors(mean), samples)
    _, accuracy = evaluate_network(network, values, Batches(dataset.test, torch.device("cpu")))
    assert populations[Population.ZOO_MEAN_RECALIBRATED].accuracy[1] == pytest.approx(accuracy)


def test_generated_networks_are_used_in_evaluation_mode(evaluation: Evaluate, tmp_path: Path) -> None:
    written = load_file(network_path(evaluation.folder, 0))
    assert (written["norm.running_var"] > 0).all()
    network = neurogen.load(evaluation.tune.folder, device="cpu").generate()
    assert not any(module.training for module in network.modules())
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    logits = network(images)
    assert torch.equal(network(images), logits)
    network.save(tmp_path / "network.safetensors")
    network.save(tmp_path / "network.pt2")
    program = torch.export.load(str(tmp_path / "network.pt2")).module()
    torch.testing.assert_close(program(images), logits)
    module = Tied(network.reader.shape)  # type: ignore[arg-type]
    module.load_state_dict(load_file(tmp_path / "network.safetensors"))  # all names, tied ones too
    torch.testing.assert_close(module.eval()(network.preparation(images)), logits)
