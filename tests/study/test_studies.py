"""Every file of conf/study gives the experiments that it promises; the command line chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import HydraContext
from hydra.utils import get_class
from omegaconf import OmegaConf

from neurogen.choices import conf_folder
from neurogen.config import Experiment, task_name
from neurogen.experiment import experiment_from
from neurogen.report.cells import cells_of
from neurogen.study.graph import steps_of


def sweep_of(*words: str, **listed: dict[str, object]) -> list[list[str]]:
    """What the sweeper makes of `-m WORDS`; with points= and variants= of those instead of a study's."""
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        configured = [word for word in words if word.startswith(("+study=", "hydra."))]
        composed = compose("config", ["hydra/launcher=basic", *configured], return_hydra_config=True)
        options = OmegaConf.to_container(composed.hydra.sweeper)
        assert isinstance(options, dict)
        options |= listed
        sweeper = get_class(options.pop("_target_"))(**options)  # by name: Hydra executes modules of plugins again
        sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=None)  # type: ignore[arg-type]
        swept = [*sweeper._parse_config(), *(word for word in words if not word.startswith("hydra."))]
        (batch,) = sweeper.split_arguments(OverridesParser.create(loader).parse_overrides(swept), None)
        return batch


def composed(points: Sequence[Sequence[str]]) -> list[Experiment]:
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        return [experiment_from(compose("config", list(point))) for point in points]


ALPHAS = ["both stages", *(f"stage 2 only, α = {alpha}" for alpha in (0.1, 1, 10))]
GROWTH = [
    *(f"{number} samples" for number in (10, 20, 40)),
    *(f"{number} steps" for number in (25, 50, 100)),
    *("1 layer", "2 layers", "8 layers", "30 layers"),
]
FIVE = "digits-cnn mnist5k-cnn digits-lenet mnist5k-lenet rotten_tomatoes-mlp"
SIX = "digits-cnn digits-lenet mnist5k-cnn mnist5k-lenet rotten_tomatoes-mlp rotten_tomatoes-rnn"
UNKNOWN = "digits-cnn digits-cnn_narrow digits-lenet mnist5k-lenet mnist5k-cnn digits-cnn_wide"
PAPERS = (
    "mnist-cnn svhn-cnn cifar10-cnn mnist-lenet svhn-lenet cifar10-lenet "
    "sst2-mlp snli-mlp ag_news-mlp sst2-rnn snli-rnn ag_news-rnn"
)
FITTED_IN_THEIR_OWN_WAY = ("names_small", "few_shot_small", "kanji_small")
# study: its tasks, its variants, how many experiments there are of a task in a variant
EXPECTED: dict[str, tuple[str, list[str | None], int]] = {
    "table1": (PAPERS, [None], 6),
    "table1_mnist": ("mnist-lenet mnist-cnn fashion_mnist-lenet fashion_mnist-cnn", [None], 6),
    "table1_small": (SIX, [None], 3),
    "figure2": ("mnist-cnn ag_news-mlp", [*ALPHAS], 3),
    "figure2_small": ("mnist5k-cnn rotten_tomatoes-mlp", [*ALPHAS], 3),
    "figure3": ("svhn-cnn_small cifar10-cnn_small", ["all data", "10,000 samples"], 3),
    "figure3_small": ("mnist5k-cnn_small", ["all data", "500 samples"], 3),
    "names_small": ("mnist_fashion-lenet", ["pretrained", "random weights"], 3),
    "few_shot_small": ("fashion_mnist-lenet", [None], 3),
    "kanji_small": ("kanji-lenet", ["20 classes", "200 classes", "1,600 classes"], 1),
    "many_small": (FIVE, ["together", "alone"], 1),
    "relabel_small": ("digits-cnn digits-lenet mnist5k-cnn mnist5k-lenet", [None], 1),
    "relabel_growth_small": ("mnist5k-lenet", [*GROWTH], 1),
    "search_small": ("mnist5k-lenet", [None], 9),
    "texts_small": ("reuters_r8-mlp reuters_r8-rnn newsgroups-mlp newsgroups-rnn", [None], 3),
    "unknown_small": (UNKNOWN, [f"{number} steps" for number in (0, 10, 50, 100)], 1),
    "unseen_small": ("digits-lenet mnist5k-lenet", [None], 1),
}


def test_every_study_is_expected() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in Path(conf_folder(), "study").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_study_gives_the_experiments_that_it_promises(name: str) -> None:
    text = Path(conf_folder(), "study", f"{name}.yaml").read_text(encoding="utf-8")
    assert f"python -m neurogen.run -m +study={name}" in text  # it opens with its command
    tasks, variants, num_alike = EXPECTED[name]
    points = sweep_of(f"+study={name}")
    assert len(points) == len(tasks.split()) * len(variants) * num_alike
    experiments = composed([point for point in points if not {"seed=1", "seed=2"} & set(point)])
    assert list(dict.fromkeys(task_name(e.dataset, e.target) for e in experiments)) == tasks.split()
    assert list(dict.fromkeys(e.variant for e in experiments)) == variants
    last = steps_of(experiments)
    assert last.name == name
    # of tasks that are learned together, how others are adapted makes no difference
    learned = [e.name for e in experiments if e.held_out and task_name(e.dataset, e.target) not in e.held_out]
    num_cells = len(experiments) - len(learned) + len(set(learned))
    assert len(last.evaluations) == len(cells_of(last)) == num_cells
    assert ("learned" in last.variants) is bool(learned)
    large = {"image": "qwen2_vl_7b", "text": "llama3_8b"}
    small = dict.fromkeys(large, "smollm2_135m")
    backbones = {e.dataset.modality: e.backbone.name for e in experiments}
    assert backbones.items() <= (small if name.endswith(("_small", "_mnist")) else large).items()
    for e in (
        experiments if name not in ("names_small", "few_shot_small", "kanji_small") else ()
    ):  # fitted as its target is
        assert e.zoo.training.lr == {"rnn": 1e-3}.get(e.target.name, 4e-3)
        assert (e.classical.training.epochs == 20) is (e.dataset.modality == "text")


def test_what_variants_change() -> None:
    """The settings of the paper's two ablations, which no label shows."""
    full, *stage_2_only = composed(
        sweep_of("+study=figure2_small", "hydra.sweeper.only.points=[mnist5k-cnn]", "seed=0")
    )
    assert (full.recipe.inject.steps, full.recipe.tune.steps, full.recipe.tune.anchor) == (60, 60, 0.0)
    for e, alpha in zip(stage_2_only, (0.1, 1.0, 10.0), strict=True):
        assert (e.recipe.inject.steps, e.generator.scale, e.generator.soft_clip) == (0, "fan_in", alpha)
        assert (e.recipe.tune.steps, e.recipe.tune.lr, e.recipe.tune.token_lr_scale) == (120, 2e-3, 5)
        assert e.evaluate.num_contexts == 4
    all_data, limited = composed(sweep_of("+study=figure3_small", "seed=0"))
    assert all_data.source is not None
    assert (all_data.dataset.limit, all_data.zoo.training.epochs, all_data.source.name) == (None, 15, "cnn")
    assert (limited.dataset.limit, limited.zoo.training.epochs, limited.recipe.tune.keep) == (500, 60, "best")


def test_the_command_line_chooses_points_and_variants_and_wins_over_both() -> None:
    words = ["+study=figure2_small", "hydra.sweeper.only.points=[mnist5k-cnn]"]
    chosen = sweep_of(*words, "hydra.sweeper.only.variants=[full,clip_0.1]", "seed=0,1")
    assert [[e.variant, e.target.name, e.seed] for e in composed(chosen)] == [
        [variant, "cnn", seed] for variant in ("both stages", "stage 2 only, α = 0.1") for seed in (0, 1)
    ]
    adapted = composed(
        sweep_of("+study=unknown_small", "recipe.adapt.steps=0,10", "hydra.sweeper.only.points=[digits-cnn]")
    )
    assert [(e.variant, e.recipe.adapt.steps) for e in adapted] == [("0 steps", 0), ("10 steps", 10)]
    clipped = sweep_of(*words, "hydra.sweeper.only.variants=[clip_1]", "seed=0", "generator.soft_clip=7,8")
    assert [e.generator.soft_clip for e in composed(clipped)] == [7, 8]
    assert sweep_of("+study=figure3", "hydra.sweeper.only.variants=['10,000 samples']", "seed=0", "dataset=svhn") == [
        ["variant='10,000 samples'", "dataset.limit=10000", "dataset=svhn", "seed=0", "+study=figure3"]
    ]


def test_without_a_study_a_sweep_is_hydras_own() -> None:
    assert sweep_of("dataset=digits,mnist5k", "seed=3") == [["dataset=digits", "seed=3"], ["dataset=mnist5k", "seed=3"]]


def test_points_are_lines_or_lists_of_overrides() -> None:
    given = {"a": "dataset=digits dataset.title='a b'", "b": ["dataset=mnist", "dataset.title=a, b"], "c": []}
    with pytest.raises(HydraException, match=r"point b: dataset.title=a, b has several values"):
        sweep_of("seed=0", points=given)
    assert sweep_of("seed=0", points=given | {"b": ["dataset.title='a, b'"]}, variants={"it's": "target=cnn"}) == [
        [*point, r"variant='it\'s'", "target=cnn", "seed=0"]
        for point in (["dataset=digits", "dataset.title='a b'"], ["dataset.title='a, b'"], [])
    ]


def test_a_study_of_the_users_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    study = tmp_path / "study" / "mine.yaml"
    study.write_text(
        "# @package _global_\nstudy_name: mine\nhydra: {sweeper: {points: {a: target=cnn}, params: {seed: '0,1'}}}\n"
    )
    words = [f"hydra.searchpath=[file://{tmp_path}]", "+study=mine"]
    assert sweep_of(*words) == [["target=cnn", "seed=0", "+study=mine"], ["target=cnn", "seed=1", "+study=mine"]]
    study.write_text(study.read_text().replace("seed: '0,1'", "cluster.steps.tune.mem_gb: '64,128'"))
    members = [f"++cluster.steps.tune.mem_gb={size}" for size in (64, 128, 256)]
    assert sweep_of(*words) == [["target=cnn", member, "+study=mine"] for member in members[:2]]
    assert sweep_of(*words, members[2]) == [["target=cnn", members[2], "+study=mine"]]
    study.write_text(study.read_text().replace("points", "pionts"))
    with pytest.raises(HydraException, match="'pionts' not in 'StudySweeperConf'"):
        sweep_of(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["+study=table1_small", "hydra.sweeper.only.points=[digits_cnn]"],
            "point=digits_cnn is no point of this study",
        ),
        (["+study=figure2_small", "hydra.sweeper.only.variants=[all]"], "allowed: full, clip_0.1, clip_1, clip_10"),
        (["hydra.sweeper.only.variants=[together]"], r"variant=together is given without a study.*\+study=NAME"),
    ],
)
def test_a_name_that_a_study_does_not_have_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(HydraException, match=message):
        sweep_of(*words)
