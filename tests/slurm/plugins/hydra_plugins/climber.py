"""A sweeper that reads results before it chooses: it tries two lengths of stage 2, and then the better one again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class ClimberConf:
    _target_: str = "hydra_plugins.climber.Climber"


ConfigStore.instance().store(group="hydra/sweeper", name="climber", node=ClimberConf, provider="tests")


class Climber(Sweeper):
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        points = ["recipe.tune.steps=1", "recipe.tune.steps=8"]
        accuracies = self.ask([[*arguments, point] for point in points])
        print("CLIMBER", *(f"{point}:{value}" for point, value in zip(points, accuracies, strict=True)), flush=True)
        best = points[accuracies.index(max(accuracies))]
        (again,) = self.ask([[*arguments, best]])
        print("CLIMBER best", best, again, flush=True)

    def ask(self, points: Sequence[Sequence[str]]) -> list[float]:
        return [result.return_value for result in self.launcher.launch(points, initial_job_idx=0)]
