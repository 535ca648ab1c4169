"""What follows the backbone copies little to a device and waits for nothing there; shown on `meta` (copies.py)."""

from __future__ import annotations

import pytest
import torch

from neurogen.data.dataset import load_images
from neurogen.data.splits import SplitName
from neurogen.generator.losses import ZooMoments, injection_loss, tuning_loss
from neurogen.generator.task import Task
from neurogen.stages.evaluate_few_shot import read_all
from neurogen.stages.task_data import TaskData
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.targets.values import values_of
from tests.conftest import Composed
from tests.copies import META, Copies
from tests.generator.test_lists import NAMED
from tests.stages.test_relabel import RELABELLED

SAMPLES = 8  # of a loss


@pytest.mark.parametrize("overrides", [NAMED, RELABELLED, ("target=resnet8", "generator.soft_clip=1")])
def test_the_losses_of_a_step_copy_indices_of_samples_and_classes_alone(
    experiment: Composed, overrides: tuple[str, ...]
) -> None:
    """Both losses there and back, for a list of classes, for classes in another order, and with clipped weights."""
    chosen = experiment(*overrides)
    dataset = load_images(chosen.dataset)
    network = build_network(chosen.target, dataset.shape).to(META)
    scale = Scale.of_fan_in(ParameterLayout.of(network), chosen.generator.soft_clip)
    task = Task.of(dataset, chosen.dataset, chosen.target, scale)
    zoo = torch.zeros(task.layout.num_parameters, device=META)
    data, rng = TaskData(task, dataset, network, ZooMoments(zoo, zoo)), torch.Generator().manual_seed(0)
    every_step = []
    for _ in range(3):
        episode = data.draw_episode(rng, rng, SplitName.TRAIN)
        listed = None if episode.listed_names is None else len(episode.listed_names)
        layout = task.layout if listed is None else task.layout.with_rows(listed)
        z = torch.zeros(layout.num_parameters, device=META, requires_grad=True)
        of_scale = task.scale if listed is None else task.scale.with_rows(listed)
        with Copies() as copies:
            inputs, classes = data.train.batch(torch.arange(SAMPLES))
            loss = tuning_loss(network, layout.tensors(of_scale.decode(z)), inputs, episode.labels(classes))
            (loss + injection_loss(z, data.zoo_of(episode))).backward()
        assert z.grad is not None
        every_step.append(copies.sizes)
    assert max(every_step[0]) > 1000  # the data come once
    assert SAMPLES in every_step[2]
    assert max(every_step[2]) <= max(SAMPLES, len(dataset.class_names))


def test_what_shows_classes_is_read_and_kept_where_the_network_is(experiment: Composed) -> None:
    chosen = experiment()
    dataset = load_images(chosen.dataset)
    network = build_network(chosen.target, dataset.shape).to(META)
    test = dataset.test.to(META)
    with Copies() as copies:
        features = read_all(network, values_of(network), test)
    assert (features.device, len(features)) == (META, len(test))
    assert copies.sizes == []
