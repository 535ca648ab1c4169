"""Hydra's plugins: hydra/launcher=slurm and =local run a sweep as one graph of steps, with hpc/jobs/launcher.py.

Without a plan they are the launchers of hydra-submitit-launcher, unchanged.
"""

# Annotations are not strings here. Where Hydra finds this file by walking a folder, it runs it without an entry in
# sys.modules, and that is where dataclasses would look up what a string means.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher, LocalLauncher, SlurmLauncher


@dataclass
class StudySlurmConf(SlurmQueueConf):
    """What conf/hydra/launcher/slurm.yaml may set, beside the options of hydra-submitit-launcher."""

    _target_: str = "hydra_plugins.neurogen_launcher.StudySlurmLauncher"
    plan: str | None = None
    wait: bool = False
    cluster: Any = None


@dataclass
class StudyLocalConf(LocalQueueConf):
    """What conf/hydra/launcher/local.yaml may set, beside the options of hydra-submitit-launcher."""

    _target_: str = "hydra_plugins.neurogen_launcher.StudyLocalLauncher"
    plan: str | None = None
    wait: bool = True
    cluster: Any = None


for _name, _node in (("study_slurm", StudySlurmConf), ("study_local", StudyLocalConf)):
    ConfigStore.instance().store(group="hydra/launcher", name=_name, node=_node, provider="neurogen")


class PlanningLauncher(BaseSubmititLauncher):
    """A launcher of hydra-submitit-launcher that may have a plan.

    `plan` names a function (composed configs, overrides) → hpc.jobs.sweep.Sweep; `cluster` is one of conf/cluster.
    """

    where: str

    def __init__(self, plan: str | None = None, wait: bool = False, cluster: Any = None, **params: Any) -> None:
        super().__init__(**params)
        self.plan, self.wait, self.cluster = plan, wait, cluster

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Called by the sweeper with the overrides of all points. Raises ClusterError."""
        if self.plan is None:
            return super().launch(job_overrides, initial_job_idx)
        from hpc.jobs.launcher import launch
        from hpc.jobs.points import compose

        assert self.hydra_context is not None
        configs = compose(self.hydra_context.config_loader, self.config, job_overrides)
        return launch(self.where, self.plan, configs, job_overrides, self.cluster, self.wait)


class StudySlurmLauncher(PlanningLauncher, SlurmLauncher):
    """hydra/launcher=slurm"""

    where = "slurm"


class StudyLocalLauncher(PlanningLauncher, LocalLauncher):
    """hydra/launcher=local"""

    where = "local"
