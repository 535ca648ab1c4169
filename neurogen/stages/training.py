"""What both stages do with a generator once they have its losses: train, validate, and save it.

in:  a generator, the data of its tasks, the losses of the contexts of a step
out: the history of the stage; the generator in the step's folder
"""

from __future__ import annotations

from collections.abc import Sequence

from neurogen.generator.folder import save_generator
from neurogen.generator.generator import Generator
from neurogen.stages.task_data import TaskData
from neurogen.stages.validation import note_known, validation_of
from neurogen.study.pipeline import Inject, Tune
from neurogen.training.history import Metrics
from neurogen.training.loop import Losses, Objective, passes_of, train
from neurogen.training.runtime import Runtime


def train_generator(
    name: str,
    generator: Generator,
    tasks: Sequence[TaskData],
    losses: Losses,
    steps_per_epoch: int,
    step: Inject | Tune,
    runtime: Runtime,
) -> list[Metrics]:
    """Run the stage; `name` is what progress and errors call it. Raises what `train` raises."""
    at_once = generator.prompts_at_once(runtime.batch_tokens)
    objective = Objective(
        name=name,
        module=generator,
        losses=losses,
        batch_size=at_once,
        validate=validation_of(generator, tasks, step.seed, at_once),
        num_tokens_read=lambda: generator.backbone.num_tokens_read,
        passes_per_step=passes_of(step.backbone, generator.reads_again),
        encoder=generator.backbone.encoder,
        steps_per_epoch=steps_per_epoch,
    )
    history = train(objective, step.stage, step.folder, step.checkpoint_interval, runtime)
    note_known(generator, history, step.stage.keep)
    if runtime.is_first:
        save_generator(generator, step.backbone, step.folder)
    return history
