"""Validation during training: the networks of a task are read in batches, and judged as each of them alone."""

from __future__ import annotations

import pytest
import torch

from neurogen.config import Keep
from neurogen.data.dataset import load_images
from neurogen.generator.prompts import Prompt, batches_of
from neurogen.stages.episode import SameTask
from neurogen.stages.task_data import TaskData
from neurogen.stages.validation import NUM_LISTS, NUM_MEANINGLESS, note_known, validation_of
from neurogen.targets.prediction import evaluate_network
from neurogen.training.runtime import Runtime
from tests.conftest import Composed
from tests.generator.test_lists import NAMED, generator_of


@pytest.mark.parametrize(("at_once", "sizes"), [(2, [2, 1, 2]), (9, [3, 2]), (1, [1] * 5)])
def test_prompts_of_one_batch_list_equally_many_classes(at_once: int, sizes: list[int]) -> None:
    lists = [("a", "b"), ("c", "d", "e"), ("f", "g"), ("h", "i"), ("j", "k", "l")]
    prompts = [Prompt("", None, names) for names in lists]
    batches = batches_of(prompts, at_once)
    assert [len(batch) for batch in batches] == sizes
    assert all(len({len(lists[index]) for index in batch}) == 1 for batch in batches)
    assert sorted(index for batch in batches for index in batch) == list(range(5))


def test_lists_are_read_in_batches_and_judged_alike(experiment: Composed, runtime: Runtime) -> None:
    chosen = experiment(*NAMED)
    generator, dataset = generator_of(chosen, runtime), load_images(chosen.dataset)
    (task,) = generator.tasks.values()
    data, sizes = TaskData(task, dataset, task.network(), None), list[int]()
    generator.register_forward_hook(lambda _, given, __: sizes.append(len(given[1])))
    alone = validation_of(generator, [data], seed=0, at_once=1)()
    assert sizes == [1] * (NUM_LISTS + NUM_MEANINGLESS)
    sizes.clear()
    together = validation_of(generator, [data], seed=0, at_once=100)()
    assert sum(sizes) == NUM_LISTS + NUM_MEANINGLESS
    assert len(sizes) == 3  # of two, three and four classes
    assert together == pytest.approx(alone, rel=1e-4)


@torch.no_grad()
def test_a_single_network_is_judged_to_the_same_bits(experiment: Composed, runtime: Runtime) -> None:
    chosen = experiment()
    generator, dataset = generator_of(chosen, runtime), load_images(chosen.dataset)
    (task,) = generator.tasks.values()
    data, prompts = TaskData(task, dataset, task.network(), None), list[Prompt]()
    generator.register_forward_hook(lambda _, given, __: prompts.extend(given[1]))
    row = validation_of(generator, [data], seed=0, at_once=100)()
    (z,) = generator(task.name, prompts[:1])
    judged_on = data.validation(SameTask(task.class_names))
    loss, accuracy = evaluate_network(data.network, generator.decode(task.name, z), judged_on)
    assert row == {"validation_loss": loss, "validation_accuracy": accuracy}


@pytest.mark.parametrize(("keep", "step"), [(Keep.last, 2), (Keep.best, 1)])
def test_a_generator_knows_what_tells_names_from_words_at_the_step_that_is_kept(
    experiment: Composed, runtime: Runtime, keep: Keep, step: int
) -> None:
    chosen = experiment(*NAMED)
    generator, dataset = generator_of(chosen, runtime), load_images(chosen.dataset)
    (task,) = generator.tasks.values()
    row = validation_of(generator, [TaskData(task, dataset, task.network(), None)], seed=0, at_once=100)()
    assert row[f"row_limit/{task.name}"] > 0
    earlier = row | {f"row_limit/{task.name}": 3.0, f"row_variance/{task.name}": 2.0, "validation_accuracy": 1.0}
    note_known(generator, [earlier, row, {"step": 3.0}], keep)
    known = generator.tasks[task.name].known
    assert known is not None
    expected = row if step == 2 else earlier
    assert float(known.limit) == pytest.approx(expected[f"row_limit/{task.name}"])
    assert float(known.variance) == pytest.approx(expected[f"row_variance/{task.name}"])
