"""Every file in conf/ composes and validates; what cannot work is refused before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from hpc.ranks.zero import zero_from
from neurogen import config
from neurogen.arguments import for_hydra
from neurogen.choices import conf_folder
from neurogen.config import Experiment, GeneratorConfig, StepKind, TuneConfig, ZooInit
from neurogen.data.arrays import store_splits
from neurogen.data.raw import Labelled
from neurogen.errors import UserError
from neurogen.experiment import experiment_from, typed
from neurogen.run import compose as experiment_of
from neurogen.run import register_functions
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.step import plain
from neurogen.targets.networks import build_network
from tests.test_docs import composed

CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in Path(conf_folder()).glob("*/*.yaml")
    if path.parent.name in ("backbone", "dataset", "recipe", "target")
)
TO_BE_GIVEN = {
    **{name: ["dataset.path=/tmp"] for name in ("image_folder", "text_table", "arrays", "text_arrays")},
    "causal_lm": ["backbone.model=a/b"],
}
TEXT_TARGETS = ("mlp", "rnn")
NAMED_BY_OPTIONS = {"torchvision": "resnet18", "reuters": "reuters_r8"}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_config_file_composes_and_validates(choice: str) -> None:
    group, name = choice.split("=")
    more = ["dataset=rotten_tomatoes"] if name in TEXT_TARGETS else TO_BE_GIVEN.get(name, [])
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        experiment = experiment_from(compose("config", [*more, choice]))
    assert getattr(experiment, group).name == NAMED_BY_OPTIONS.get(name, name)


@pytest.mark.parametrize("dataset", ["mnist5k", "rotten_tomatoes"])
def test_cfg_job_shows_every_setting(dataset: str) -> None:
    def require_all(section: type, values: Any, within: str) -> None:
        types = get_type_hints(section)
        assert set(values) == set(types), within
        for key, value in values.items():
            kind = (get_args(types[key]) or (types[key],))[0]
            if isinstance(value, dict) and is_dataclass(kind):
                require_all(cast(type, kind), value, f"{within}.{key}")

    with initialize_config_dir(conf_folder(), version_base="1.3"):
        composed = compose("config", [f"dataset={dataset}"])
    require_all(Experiment, OmegaConf.to_container(composed), "the experiment")


@pytest.mark.parametrize("words", ["preset=named", "preset=few_shot", "dataset=kanji preset=named", "dataset=arrays"])
def test_every_value_that_conf_computes_is_shown(tmp_path: Path, words: str) -> None:
    """As --cfg job --resolve does: names of classes and the size of stored arrays are sections of their own."""
    arrays = Labelled.of(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10) % 2)
    path = store_splits({"train": arrays}, ("a", "b"), tmp_path)
    register_functions(as_nodes=True)
    try:
        (config,) = composed([*words.split(), f"dataset.path={path}"])
        OmegaConf.resolve(config)
    finally:
        register_functions()
    assert "${" not in OmegaConf.to_yaml(config)
    assert config.dataset.size.num_train == 8 if words == "dataset=arrays" else len(config.dataset.names) > 5


@pytest.mark.parametrize("gpu", ["a100_40", "a100_80", "h100_80"])
def test_every_gpu_composes(experiment: Callable[..., Experiment], gpu: str) -> None:
    assert experiment(f"gpu={gpu}").gpu.memory_gb == int(gpu.split("_")[1])


def test_every_way_to_share_composes(experiment: Callable[..., Experiment]) -> None:
    names = sorted(path.stem for path in Path(conf_folder()).glob("zero/*.yaml"))
    zeros = {name: zero_from(experiment(f"zero={name}").zero) for name in names}
    stages = {"none": 0, "stage1": 1, "stage2": 2, "stage3": 3, "stage3_offload": 3}
    assert {name: zero.stage for name, zero in zeros.items()} == stages
    assert [name for name, zero in zeros.items() if zero.offload] == ["stage3_offload"]


@pytest.mark.parametrize(("target", "lr"), [("lenet", 4e-3), ("rnn", 1e-3)])
def test_the_target_decides_how_it_is_fitted(target: str, lr: float) -> None:
    dataset = "mnist" if target == "lenet" else "sst2"
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        assert compose("config", [f"dataset={dataset}", f"target={target}"]).zoo.training.lr == lr
        assert compose("config", [f"dataset={dataset}", f"target={target}", "fit=rnn"]).zoo.training.lr == 1e-3


def test_the_target_of_stage_1_leaves_classical_training_alone(experiment: Callable[..., Experiment]) -> None:
    text = ("dataset=rotten_tomatoes", "target=rnn")
    for words, source in ((text, "mlp"), (("target=cnn",), "cnn_small")):
        with_source = experiment(*words, f"target@source={source}", "recipe.tune.anchor=0")
        assert with_source.classical.training == experiment(*words).classical.training


@pytest.mark.parametrize(
    ("words", "backbone", "cluster"),
    [
        ("", "smollm2_135m", "here"),
        ("dataset=sst2", "smollm2_135m", "here"),
        ("hydra/launcher=local", "smollm2_135m", "here"),
        ("hydra/launcher=slurm", "qwen2_vl_7b", "a100"),
        ("hydra/launcher=slurm dataset=sst2", "llama3_8b", "a100"),
        ("hydra/launcher=slurm cluster=here", "smollm2_135m", "here"),
        ("hydra/launcher=slurm dataset=sst2 backbone=smollm2_135m", "smollm2_135m", "a100"),
        ("hydra/launcher=slurm backbone=tiny_llama", "tiny_llama", "a100"),
        ("cluster=a100 dataset=snli target=rnn", "llama3_8b", "a100"),
        ("backbone=${paper_backbone} dataset=snli target=rnn", "llama3_8b", "here"),
    ],
)
def test_the_launcher_and_the_dataset_decide_the_default_backbone(words: str, backbone: str, cluster: str) -> None:
    overrides = [word for word in for_hydra(["run", "-m", *words.split()])[2:] if not word.startswith("hydra/")]
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        composed = compose("config", overrides)
    assert (composed.backbone.name, composed.cluster.name) == (backbone, cluster)
    assert composed.zero.stage == (2 if cluster == "a100" else 0)


@pytest.mark.parametrize(("dataset", "target"), [("mnist", "lenet"), ("snli", "mlp")])
def test_the_dataset_decides_the_default_target(dataset: str, target: str) -> None:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        assert compose("config", [f"dataset={dataset}"]).target.name == target
        assert compose("config", [f"dataset={dataset}", "target=rnn"]).target.name == "rnn"


@pytest.mark.parametrize("target", ["lenet", "cnn", "cnn_small"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [12, 28, 32, 33])
def test_every_target_takes_every_size_and_channel_count(
    experiment: Callable[..., Experiment], target: str, channels: int, size: int
) -> None:
    import torch

    from neurogen.data.preparation import ImageShape

    network = build_network(experiment(f"target={target}").target, ImageShape(channels, size, size, 7))
    assert network(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("zoo.init=same", "zoo.init=same is unknown; allowed: shared, independent"),
        ("zoo.align=all", "allowed: none, rebasin"),
        ("generator.order=random", "allowed: context_first, tokens_first"),
        ("generator.projection=dense", "allowed: shared, per_token, low_rank"),
        ("generator.context_warmup=2", "between 0 and 1"),
        ("generator.drop_data=-0.1", "between 0 and 1"),
        ("generator.order=1.5", "generator.order=1.5 is unknown; allowed: context_first, tokens_first, interleaved"),
        ("generator.order=null", "generator.order=null is unknown"),
        ("only=[tune,sleep]", "only[1]=sleep is unknown; allowed: embed, reference, classical, inject, tune"),
        ("generator.soft_clip=0", "above 0"),
        ("recipe.tune.optimizer=lion", "allowed: adamw, sgd"),
        ("recipe.tune.lr=-1", "above 0"),
        ("recipe.inject.epochs=3", "set exactly one"),
        ("recipe.inject.steps=0", "set recipe.tune.anchor=0"),
        ("dataset.validation_fraction=1", "between 0 and 1"),
        ("evaluate.num_contexts=0", "above 0"),
        ("zoo.num_networks=many", "zoo.num_networks"),
        ("+zoo.colour=red", "allowed: num_networks, chunk_size, init, shared_epochs, align"),
        ("dataset.name=a/b", "dataset.name=a/b becomes part of a folder's name"),
        ("recipe.tune.beta2=1.5", "between 0 and 1"),
        ("recipe.tune.keep=first", "allowed: last, best"),
        ("recipe.tune.batch_size=2", "generator.context_samples=4 is more than"),
        ("zoo.training.schedule=plateau", "allowed: cosine, constant"),
        ("backbone.attention=none", "allowed: auto, sdpa, eager"),
        ("target=rnn", "dataset digits is image, target rnn classifies text; use target=lenet or target=cnn"),
        ("target.modality=sound", "allowed: image, text"),
        ("backbone.random_seed=null", "leave no weights"),
        ("backbone.architecture=null", "backbone.architecture, which is null"),
        ("backbone.lora.target_modules=[]", "adapts nothing"),
        ("gpu.utilisation=0", "above 0"),
        ("dataset.split_seed=-1", "at least 0"),
        ("dataset.resize=0", "above 0"),
        ("num_threads=-1", "num_threads=-1 must be at least 0"),
        ("study_name=a/b", "study_name=a/b becomes part of a folder's name"),
        ("part=3", "part=3 must be below num_parts=1"),
        ("device=tpu", "allowed: auto, cpu, cuda"),
    ],
)
def test_what_cannot_work_is_refused_with_what_can(
    experiment: Callable[..., Experiment], override: str, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        experiment(override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stage_2_of_the_fast_recipe_follows_the_zoo(experiment: Callable[..., Experiment]) -> None:
    """Holding on to the mean of independent networks would hold on to no network at all."""

    def tune_of(*overrides: str) -> TuneConfig:
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            return experiment_from(compose("config", list(overrides))).recipe.tune

    shared, independent = tune_of(), tune_of("zoo.init=independent")
    assert shared.anchor > 0 == independent.anchor
    assert independent.steps > shared.steps
    assert tune_of("zoo.init=independent", "recipe.tune.steps=7").steps == 7


def test_stage_1_of_the_fast_recipe_is_longer_for_networks_with_normalisation() -> None:
    def lengths(*overrides: str) -> tuple[int | None, int | None]:
        with initialize_config_dir(conf_folder(), version_base="1.3"):
            recipe = experiment_from(compose("config", list(overrides))).recipe
        return recipe.inject.steps, recipe.tune.steps

    assert lengths() == lengths("dataset=reuters", "target=rnn") == (60, 60)
    assert lengths("target=resnet8") == lengths("target=torchvision") == (150, 60)
    assert lengths("target=resnet8", "recipe.inject.steps=7") == (7, 60)


@pytest.mark.parametrize(
    ("target", "weight_decay"), [("lenet", 0.2), ("resnet8", 0.2), ("cnn", 0.0), ("cnn_small", 0.0)]
)
def test_the_baseline_has_the_weight_decay_that_makes_its_target_strong(target: str, weight_decay: float) -> None:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        composed = experiment_from(compose("config", [f"target={target}"]))
    assert composed.classical.training.weight_decay == weight_decay


@pytest.mark.parametrize("length", ["steps=0", "epochs=0 recipe.inject.steps=null"])
def test_a_stage_1_of_no_steps_or_no_epochs_is_left_out(experiment: Callable[..., Experiment], length: str) -> None:
    words = f"recipe.inject.{length}".split()
    key = length.partition("=")[0]
    with pytest.raises(UserError, match=rf"recipe\.inject\.{key}=0 leaves stage 1 out.*set recipe\.tune\.anchor=0"):
        experiment(*words, "recipe.tune.anchor=1")
    alone = experiment(*words, "recipe.tune.anchor=0", "generator.scale=fan_in")
    assert not any(step.kind == StepKind.inject for step in in_order(steps_of([alone])))


def test_stage_2_alone_needs_a_scale_of_its_own(experiment: Callable[..., Experiment]) -> None:
    alone = ["recipe.inject.steps=0", "recipe.tune.anchor=0"]
    with pytest.raises(UserError, match=r"add generator.scale=fan_in"):
        experiment(*alone)
    steps = in_order(steps_of([experiment(*alone, "generator.scale=fan_in", "generator.soft_clip=1.0")]))
    assert "inject" not in {step.kind for step in steps}


def test_a_section_read_back_from_a_file_is_checked_too() -> None:
    with pytest.raises(UserError, match=r"^config tokens is missing; set tokens=VALUE$"):
        typed(GeneratorConfig, {"order": "context_first"})


def keys(experiment: Experiment) -> dict[str, str]:
    return {step.kind: step.key for step in in_order(steps_of([experiment]))}


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("root=elsewhere", {"reference", "classical", "inject", "tune", "evaluate", "sweeps"}),
        ("checkpoint_minutes=null", {"reference", "classical", "inject", "tune", "evaluate", "sweeps"}),
        ("checkpoint_every=7", {"reference", "classical", "inject", "tune", "evaluate", "sweeps"}),
        ("recipe.tune.steps=9", {"reference", "classical", "inject"}),
        ("recipe.inject.lr=1", {"reference", "classical"}),
        ("zoo.align=rebasin", {"reference", "classical"}),
        ("zoo.init=independent", {"classical"}),
        ("dataset.limit=500", set()),
        ("dataset.version='2'", set()),
        ("target.version='2'", set()),
        ("backbone.gradient_checkpointing=true", {"reference", "classical", "inject", "tune", "evaluate", "sweeps"}),
        ("seed=1", set()),
    ],
)
def test_a_step_is_named_by_what_determines_its_result(
    experiment: Callable[..., Experiment], override: str, same: set[str]
) -> None:
    before, after = keys(experiment()), keys(experiment(override))
    assert {kind for kind in before if before[kind] == after[kind]} == same


def test_a_zoo_in_chunks_is_several_steps(experiment: Callable[..., Experiment]) -> None:
    references = steps_of([experiment("zoo.num_networks=5", "zoo.chunk_size=2")]).evaluations[0].zoo.references
    assert [(step.first, step.num_networks) for step in references] == [(0, 2), (2, 2), (4, 1)]


@pytest.mark.parametrize(
    "module", ["neurogen.run", "neurogen.config", "neurogen.study.pipeline", "neurogen.report.terminal"]
)
def test_composing_planning_and_showing_import_no_torch(module: str) -> None:
    heavy = "{'torch', 'transformers', 'peft', 'matplotlib', 'scipy'} & set(sys.modules)"
    program = f"import sys, {module}, neurogen.report.terminal; assert not ({heavy}), {heavy}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_python_composes_what_the_command_line_does(tmp_path: Path) -> None:
    """Also inside a program that Hydra runs, whose state stays; and with files of the user's."""
    with initialize_config_dir(conf_folder(), version_base="1.2"):
        outer = GlobalHydra.instance().hydra
        composed = experiment_of(["dataset=digits", "target=cnn", "zoo.init=independent"])
        assert GlobalHydra.instance().hydra is outer
        assert compose("config", ["target=cnn"]).target.name == "cnn"
    assert (composed.dataset.name, composed.zoo.init, composed.recipe.tune.steps) == (
        "digits",
        ZooInit.independent,
        150,
    )
    assert experiment_of(["+experiment=table1_small"]).study_name == "table1_small"
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "weather.yaml").write_text("{name: weather, title: radar, load: digits, path: null}")
    assert experiment_of([f"hydra.searchpath=[file://{tmp_path}]", "dataset=weather"]).dataset.title == "radar"
    with pytest.raises(
        UserError, match=r"the config has no key sed; did you mean seed\? allowed: name, study_name, .*seed"
    ):
        experiment_of(["sed=1"])


def test_enums_are_plain_strings_where_they_are_written(experiment: Callable[..., Experiment]) -> None:
    """OmegaConf reads their names and JSON holds their values, so both must be the same."""
    for name in config.__all__:
        kind = getattr(config, name)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            assert [member.name for member in kind] == [member.value for member in kind]
    generator = experiment("generator.order=interleaved").generator
    written = json.dumps(plain(generator, identity=True))
    assert '"order": "interleaved"' in written
    assert typed(GeneratorConfig, json.loads(written)) == generator
