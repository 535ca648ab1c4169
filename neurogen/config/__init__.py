"""The experiment as one typed value, and the meaning of every key of conf/.

in:  what Hydra composes of conf/, by neurogen/experiment.py
out: `Experiment` and the dataclasses of its sections

Everything else reads these and never a DictConfig. They stand together, and not beside the components that they
describe, since this package imports no torch: `--cfg job`, the plan of a sweep and the table of a finished run need the
config and nothing else. Values have no defaults here; conf/ has them, where `--cfg job` shows them. Allowed values are
enums, whose members are called what their values are, since OmegaConf reads the former and JSON holds the latter.
"""

from neurogen.config.backbone import Attention, BackboneConfig, LoraConfig, ModelConfig, PackageConfig
from neurogen.config.experiment import (
    CheckpointInterval,
    Device,
    Experiment,
    GpuConfig,
    StepKind,
    StopAfter,
    TaskSharing,
)
from neurogen.config.few_shot import EpisodesConfig, FewShotConfig
from neurogen.config.generator import GeneratorConfig, ProjectionKind, ScaleKind, TokenKind, TokenOrder
from neurogen.config.identity import IF_SET
from neurogen.config.stages import (
    EvaluateConfig,
    Keep,
    Optimizer,
    RecipeConfig,
    SentenceEncoder,
    StageConfig,
    StageSchedule,
    TuneConfig,
)
from neurogen.config.task import (
    DatasetConfig,
    Duplicates,
    GlyphsConfig,
    Modality,
    NamesConfig,
    PartConfig,
    Relabel,
    ReutersTopics,
    SizeConfig,
    TargetConfig,
    TextConfig,
    task_name,
)
from neurogen.config.zoo import (
    Alignment,
    ClassicalConfig,
    NetworkSchedule,
    TrainingConfig,
    ZooConfig,
    ZooInit,
)

__all__ = [
    "IF_SET",
    "Alignment",
    "Attention",
    "BackboneConfig",
    "CheckpointInterval",
    "ClassicalConfig",
    "DatasetConfig",
    "Device",
    "Duplicates",
    "EpisodesConfig",
    "EvaluateConfig",
    "Experiment",
    "FewShotConfig",
    "GeneratorConfig",
    "GlyphsConfig",
    "GpuConfig",
    "Keep",
    "LoraConfig",
    "Modality",
    "ModelConfig",
    "NamesConfig",
    "NetworkSchedule",
    "Optimizer",
    "PackageConfig",
    "PartConfig",
    "ProjectionKind",
    "RecipeConfig",
    "Relabel",
    "ReutersTopics",
    "ScaleKind",
    "SentenceEncoder",
    "SizeConfig",
    "StageConfig",
    "StageSchedule",
    "StepKind",
    "StopAfter",
    "TargetConfig",
    "TaskSharing",
    "TextConfig",
    "TokenKind",
    "TokenOrder",
    "TrainingConfig",
    "TuneConfig",
    "ZooConfig",
    "ZooInit",
    "task_name",
]
