"""Hydra's plugins: hydra/launcher=slurm and =local, a sweep as one job graph. What they do stands in hpc/launcher.py.

Without a plan they are the launchers of hydra-submitit-launcher, unchanged.
"""

# Annotations are no strings here: where Hydra finds this file by walking, it runs it without a name in sys.modules,
# and dataclasses look there for what a string means.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher, LocalLauncher, SlurmLauncher


@dataclass
class StudySlurmConf(SlurmQueueConf):
    """What conf/hydra/launcher/slurm.yaml may set beside the options of hydra-submitit-launcher."""

    _target_: str = "hydra_plugins.neurogen_launcher.StudySlurmLauncher"
    plan: str | None = None
    wait: bool = False
    cluster: Any = None


@dataclass
class StudyLocalConf(LocalQueueConf):
    _target_: str = "hydra_plugins.neurogen_launcher.StudyLocalLauncher"
    plan: str | None = None
    wait: bool = True
    cluster: Any = None


for _name, _node in (("study_slurm", StudySlurmConf), ("study_local", StudyLocalConf)):
    ConfigStore.instance().store(group="hydra/launcher", name=_name, node=_node, provider="neurogen")


class PlanningLauncher(BaseSubmititLauncher):
    """`plan` names a function (composed configs, overrides) → hpc.jobs.study.Study; `cluster` is one of
    conf/cluster."""

    where: str

    def __init__(self, plan: str | None = None, wait: bool = False, cluster: Any = None, **params: Any) -> None:
        super().__init__(**params)
        self.plan, self.wait, self.cluster = plan, wait, cluster

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.plan is None:
            return super().launch(job_overrides, initial_job_idx)
        from hpc.jobs.launcher import launch
        from hpc.jobs.points import compose

        assert self.hydra_context is not None
        configs = compose(self.hydra_context.config_loader, self.config, job_overrides)
        return launch(self.where, self.plan, configs, job_overrides, self.cluster, self.wait)


class StudySlurmLauncher(PlanningLauncher, SlurmLauncher):
    where = "slurm"


class StudyLocalLauncher(PlanningLauncher, LocalLauncher):
    where = "local"


class StudySweeper(BasicSweeper):
    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """A launcher with a plan composes every point before it submits the first, so once is enough."""
        if getattr(self.launcher, "plan", None) is None:
            super().validate_batch_is_legal(batch)
