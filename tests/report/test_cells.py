"""Which evaluations form a row, what a row says of its seeds, and the tables that are made of rows."""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from neurogen.config import Experiment
from neurogen.report import html, paper, tables
from neurogen.report.cells import accuracy_columns, averaged, cells_of, row_of, summaries_of
from neurogen.report.figures import save
from neurogen.report.formats import latex, markdown, slug, write_study
from neurogen.report.list_summaries import few_shot_of, naming_of
from neurogen.report.study_tables import of_study
from neurogen.report.table import Table
from neurogen.report.terminal import show_as_made
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.pipeline import Aggregate
from neurogen.study.results import EvaluationResult, FewShotResult, NamingResult, PopulationResult
from neurogen.study.rows import COLUMNS, Comparison, Row
from neurogen.training.runtime import Runtime
from tests.few_shot import words_for


def test_what_differs_but_for_seeds_is_a_row_of_its_own(experiment: Callable[..., Experiment]) -> None:
    """Also what only some points have: stage 1 and its settings."""
    points = (
        "recipe.inject.steps=0 recipe.tune.anchor=0 generator.scale=fan_in",
        "recipe.inject.lr=1e-3 recipe.tune.anchor=0 generator.scale=fan_in",
        "recipe.inject.lr=2e-3 recipe.tune.anchor=0 generator.scale=fan_in",
        "recipe.inject.lr=2e-3 recipe.tune.anchor=0 generator.scale=fan_in zoo.shared_epochs=0",
    )
    experiments = [experiment(*point.split(), f"seed={seed}") for point in points for seed in (0, 1)]
    cells = cells_of(steps_of(experiments))
    assert [len(members) for members in cells.values()] == [2, 2, 2, 2]
    epochs = experiments[0].zoo.shared_epochs
    assert [set(settings.split()) for *_, settings in cells] == [
        set(text.split())
        for text in (
            f"recipe.inject.steps=0 zoo.shared_epochs={epochs}",
            f"recipe.inject.steps=8 recipe.inject.lr=0.001 zoo.shared_epochs={epochs}",
            f"recipe.inject.steps=8 recipe.inject.lr=0.002 zoo.shared_epochs={epochs}",
            "recipe.inject.steps=8 recipe.inject.lr=0.002 zoo.shared_epochs=0",
        )
    ]


@pytest.mark.parametrize(
    "words", ["few_shot.episodes.ways=3", "few_shot.test_shots=[1]", "few_shot.data.glyphs.num_parts=0"]
)
def test_other_episodes_are_a_row_of_their_own(
    experiment: Callable[..., Experiment], tmp_path: Path, words: str
) -> None:
    few = words_for(tmp_path)
    cells = cells_of(steps_of([experiment(*few), experiment(*few, words)]))
    assert len(cells) == 2
    assert all(words.partition("=")[0] in settings for *_, settings in cells)


def test_a_variant_is_called_by_its_name_and_what_else_differs(experiment: Callable[..., Experiment]) -> None:
    """Points of one variant with different settings are no seeds of each other."""
    points = (
        "variant=full recipe.tune.lr=1e-3", "variant=clipped preset=stage_2_only", "variant=full recipe.tune.lr=2e-3",
        "variant=full recipe.tune.lr=2e-3 seed=1",
    )  # fmt: skip
    study = steps_of([experiment(*point.split()) for point in points])
    assert {settings: len(members) for (*_, settings), members in cells_of(study).items()} == {
        "full recipe.tune.lr=0.001": 1,
        "clipped": 1,
        "full recipe.tune.lr=0.002": 2,
    }
    unnamed = Aggregate(study.root, study.name, study.evaluations, (None,) * 4)
    assert unnamed.key != study.key  # its table shows other names


def test_equal_points_have_all_their_names(experiment: Callable[..., Experiment]) -> None:
    """Only of a task that is learned while others are held out, the names tell how those are adapted."""
    equal = [experiment(f"variant={name}") for name in ("full", "both", "full")]
    unnamed = experiment()
    named = {settings for *_, settings in cells_of(steps_of([*equal, unnamed]))}
    assert named == {"full, both"}
    assert steps_of([unnamed, unnamed]).variants == (None,)
    words = ("tasks=together", "held_out=[digits-lenet]")
    adapted = [
        experiment(*words, f"variant={name}", f"target={target}", f"recipe.adapt.lr={rate}", "dataset.resize=16")
        for name, rate in (("slow", 0.001), ("fast", 0.002), ("quick", 0.002))
        for target in ("cnn_small", "lenet")
    ]
    assert steps_of(adapted).variants == ("learned", "slow", "fast, quick")


def test_another_source_is_a_row_of_its_own(experiment: Callable[..., Experiment]) -> None:
    source = "target@source=cnn recipe.tune.anchor=0"
    points = ("recipe.tune.anchor=0", source, f"{source} source.options.channels=[8,8]")
    cells = cells_of(steps_of([experiment(*point.split()) for point in points]))
    assert len(cells) == 3
    assert next(settings.split()[0] for *_, settings in cells) == "target@source=None"


def test_files_of_rows_have_names_of_their_own(tmp_path: Path, experiment: Callable[..., Experiment]) -> None:
    """Also where settings have dots, and very many of them differ."""
    row = unmeasured(experiment())
    names = [slug(replace(row, settings=settings)) for settings in SETTINGS]
    assert len(set(names)) == len(SETTINGS)
    assert max(len(name.encode()) for name in names) < 140
    joined = [replace(row, dataset=dataset, target=target) for dataset, target in (("a-b", "c"), ("a", "b-c"))]
    assert len({slug(row) for row in joined}) == 2
    assert names[:3] == [f"digits-cnn_small-tiny_llama-fast{end}" for end in NAMED_AS_THEY_ARE]
    figure = Figure()
    for name in names:
        save(figure, tmp_path / f"conditioning-{name}")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"conditioning-{n}.{s}" for n in names for s in ("png", "pdf")
    }


def unmeasured(experiment: Experiment) -> Row:
    """The row of an experiment of which nothing has run."""
    ((cell, evaluations),) = cells_of(steps_of([experiment])).items()
    return row_of(cell, evaluations)


def test_a_tensor_of_zeros_has_no_ratio(experiment: Callable[..., Experiment]) -> None:
    norms = {"offset": Comparison(0.0, 0.0), "weight": Comparison(2.0, 1.0)}
    table = tables.tensors(replace(unmeasured(experiment()), norms=norms))
    assert [line[-1] for line in table.rows] == ["–", "0.50"]


def test_classical_networks_that_are_never_right(
    experiment: Callable[..., Experiment], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is divided by their accuracy, and the row counts as measured."""
    populations = summaries_of([result_of({"classical": [0.0, 0.0], "generated": [0.5]}, [], 0)])
    values = accuracy_columns(populations) | {"n_seeds": 1, "num_test": 8}
    assert (values["ratio"], values["generated_mean"]) == (None, 50.0)
    row = replace(unmeasured(experiment()), populations=populations, **values)
    assert html.tiles([row, row])[1].value == "2 of 2"
    write_study([row], tmp_path)
    show_as_made(tmp_path)
    assert "ratio generated / classical –; 1 seed" in capsys.readouterr().out


NAMED_AS_THEY_ARE = ("", "-recipe.tune.lr=0.001", "-10-samples")
SETTINGS = (
    *("", "recipe.tune.lr=0.001", "10 samples"),
    *("10-samples", "lr < 1", "lr > 1", "a+b", "a b", "a-b", "a, b", "α = 1", "x=1e-05"),
    *("recipe.tune.lr=0.1 " * 20 + end for end in "ab"),
    *("猫" * 127 + end for end in "犬鳥"),
)


def test_the_strength_of_a_matched_baseline_has_the_digits_of_a_large_zoo(
    experiment: Callable[..., Experiment],
) -> None:
    values = {"averaged_zoo": 1234.0, "noisy_zoo": 0.15, "drawn_zoo": 99.0}
    populations = summaries_of([result_of({name: [0.5] for name in values}, [], 0)])
    table = tables.networks(replace(unmeasured(experiment()), populations=populations, matched_strengths=values))
    assert [line[0] for line in table.rows] == [
        "matched: average of the zoo (1,234)",
        "matched: noisy zoo network (0.15)",
        "matched: Gaussian of the zoo (99)",
    ]


def test_means_of_nested_numbers() -> None:
    parts = [{"a": {"x": [1.0, 3.0], "y": 2.0}, "b": []}, {"a": {"x": [8.0], "y": 4.0}, "b": [], "c": 1.0}]
    assert averaged(parts) == {"a": {"x": 4.0, "y": 3.0}, "b": None, "c": 1.0}


def test_two_seeds_meet_in_one_row(shared_experiment: Callable[..., Experiment], runtime: Runtime) -> None:
    """Means over all networks of all seeds, in percent; deviations over networks that have seeds of their own, or else
    over the means of the seeds."""
    experiments = [shared_experiment(f"seed={seed}", "study_name=two") for seed in (0, 1)]
    last = steps_of(experiments)
    assert last.name == "two"
    for step in in_order(last):
        step.run(runtime)
    with (last.folder / "results.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row) == COLUMNS
    measured = [evaluation.metrics()["populations"] for evaluation in last.evaluations]
    generated, classical = ([[100 * v for v in seed[name]["accuracy"]] for seed in measured] for name in POPULATIONS)
    pooled = {name: [*itertools.chain(*by_seed)] for name, by_seed in (("g", generated), ("c", classical))}
    assert float(row["generated_mean"]) == round(statistics.fmean(pooled["g"]), 2)
    assert float(row["generated_std"]) == round(statistics.stdev(map(statistics.fmean, generated)), 2)
    assert float(row["classical_mean"]) == round(statistics.fmean(pooled["c"]), 2)
    assert float(row["classical_std"]) == round(statistics.stdev(pooled["c"]), 2)
    ratio = float(row["generated_mean"]) / float(row["classical_mean"])
    assert float(row["ratio"]) == pytest.approx(ratio, abs=1e-4)
    assert (row["status"], row["n_ok"], row["n_expected"], row["n_seeds"]) == ("ok", "4", "4", "2")
    validation = statistics.fmean(100 * step.metrics()["validation_accuracy"] for step in last.evaluations)
    assert float(row["validation"]) == pytest.approx(validation, abs=0.006)
    spread = f"{float(row['generated_mean']):.2f} ± {float(row['generated_std']):.2f}"
    assert spread in (last.folder / "results.md").read_text(encoding="utf-8")
    assert spread.replace("±", r"$\pm$") in (last.folder / "results.tex").read_text(encoding="utf-8")
    report = next(last.folder.glob("report-*.md")).read_text(encoding="utf-8")
    for words in ("2 seeds", f"{spread} %", "labels shuffled", "8.weight", "## Ensembles"):
        assert words in report
    for picture in ("learning", "memorisation-*", "conditioning-*"):
        assert next(last.folder.glob(f"{picture}.png")).stat().st_size > 5000


POPULATIONS = ("generated", "classical")


def test_the_paper_stands_beside_what_is_nearest_to_it(experiment: Callable[..., Experiment]) -> None:
    """Also where nothing is measured yet; other cells have no figures of the paper's."""
    points = ("dataset=mnist5k target=lenet", "dataset=digits", "dataset=rotten_tomatoes target=rnn")
    cells = cells_of(steps_of([experiment(*point.split()) for point in points]))
    rows = [row_of(cell, evaluations) for cell, evaluations in cells.items()]
    table = of_study(rows)
    assert table.header[-3:] == ("paper: data", "paper: classical", "paper: NeuroGen")
    assert [line[-3:] for line in table.rows] == [
        ("MNIST", "99.01", "92.18"), ("", "–", "–"), ("SST-2", "77.63", "76.03"),
    ]  # fmt: skip
    assert [row.status for row in rows] == ["incomplete"] * 3
    assert paper.TABLE_1["cifar10", "lenet"].generated == 32.59
    assert paper.table_1("cifar10", "mlp") is None


@pytest.mark.parametrize(
    "words",
    [
        "preset=relabel",
        "preset=named",
        "preset=relabel generator.order=interleaved dataset.unseen=['9']",
        "dataset.limit=500",
        "dataset.resize=14",
        "target=cnn target.options.channels=[4]",
        "target=cnn target.build=tests.api.test_fit.perceptron",
        "recipe.inject.steps=0 recipe.tune.anchor=0 generator.scale=fan_in",
        "target@source=cnn recipe.tune.anchor=0",
    ],
)
def test_the_paper_does_not_stand_beside_another_task(experiment: Callable[..., Experiment], words: str) -> None:
    words_of = ["dataset=mnist5k", "target=lenet"]
    points = ([*words_of, "dataset.resize=28"], [*words_of, *words.split()])
    whole, changed = (steps_of([experiment(*point)]).evaluations[0] for point in points)
    assert paper.published_of(whole) == paper.table_1("mnist5k", "lenet")
    assert paper.published_of(changed) is None


def test_the_paper_does_not_stand_beside_a_task_that_is_held_out(experiment: Callable[..., Experiment]) -> None:
    points = ("dataset=mnist5k target=lenet", "dataset=mnist5k target=cnn")
    words = ("tasks=together", "held_out=[mnist5k-cnn]")
    experiments = [experiment(*point.split(), *words) for point in points]
    learned, met = steps_of(experiments).evaluations
    assert paper.published_of(learned) == paper.table_1("mnist5k", "lenet")
    assert paper.published_of(met) is None


def test_special_characters_in_tables() -> None:
    table = Table("t", ("a_b", "c"), [("50 % & #1", "x|y ± 1")], "note")
    assert r"50 \% \& \#1 & x|y $\pm$ 1 \\" in latex(table)
    assert r"a\_b" in latex(table)
    assert "| 50 % & #1 | x\\|y ± 1 |" in markdown(table)


def result_of(accuracies: dict[str, list[float]], few_shot: list[FewShotResult], num_names: int) -> EvaluationResult:
    return EvaluationResult(
        populations={name: PopulationResult(values, [], []) for name, values in accuracies.items()},
        matched_strengths={},
        conditions={},
        norms={},
        noise={},
        ensembles={},
        validation_accuracy=0.5,
        num_test=1,
        num_train=1,
        naming={"new names": NamingResult([True] * num_names)} if num_names else {},
        few_shot=few_shot,
    )


@pytest.mark.parametrize(("num_names", "classical_std"), [(0, 11.55), (2, 0.0)])
def test_lists_of_classes_are_no_networks(num_names: int, classical_std: float) -> None:
    """What lists differ by is no deviation between the networks of one population and not of the other."""
    by_list = {"classical": [0.8, 1.0], "generated": [0.8, 1.0]}
    summaries = summaries_of([result_of(by_list, [], num_names) for _ in range(2)])
    assert summaries["classical"].std == classical_std
    assert summaries["generated"].std == 0.0
    assert {summary.n for summary in summaries.values()} == {4}


def test_the_note_says_over_what_rows_deviate(experiment: Callable[..., Experiment]) -> None:
    """Of lists over seeds for every kind of network; of both kinds of rows both is said, in either table."""
    nothing = unmeasured(experiment())
    results = [result_of({"classical": [0.8], "generated": [0.8]}, [], num_names) for num_names in (0, 2)]
    plain, listed = (
        replace(nothing, populations=summaries_of([result]), naming=naming_of([result])) for result in results
    )
    expected = {(True, False): [plain, nothing], (False, True): [listed, nothing], (True, True): [plain, listed]}
    for said, rows in expected.items():
        note = of_study(rows).note
        assert (tables.DEVIATION in note, tables.DEVIATION_OF_LISTS in note) == said
    for row, sentence in ((plain, tables.DEVIATION), (listed, tables.DEVIATION_OF_LISTS)):
        assert tables.networks(row).note == sentence
    assert tables.DEVIATION in of_study([nothing]).note


def test_an_overlap_that_is_not_defined_is_left_out(experiment: Callable[..., Experiment]) -> None:
    """Of some networks of a population, or of all."""
    overlaps = {"zoo": [None, None], "generated": [None, 0.5]}
    by_name = {name: PopulationResult([1.0, 0.9], values, [2.0, 3.0]) for name, values in overlaps.items()}
    populations = summaries_of([replace(result_of({}, [], 0), populations=by_name)])
    assert [summary.max_iou for summary in populations.values()] == [None, 0.5]
    table = tables.networks(replace(unmeasured(experiment()), populations=populations))
    assert [line[-2:] for line in table.rows] == [("–", "2.50"), ("0.50", "2.50")]


def test_the_error_of_shown_classes_is_over_seeds() -> None:
    """The contexts of a seed share its generator."""
    rest = {"zoo": [0.5, 0.69], "trained": [0.5], "mixed_named": [1.0], "mixed_novel": [1.0]}
    shown = [FewShotResult(2, 0.9, [0.5 + gain, 0.7 + gain], **rest) for gain in (0.01, 0.03)]
    (first,) = few_shot_of([result_of({}, shown[:1], 2)])
    (both,) = few_shot_of([result_of({}, [part], 2) for part in shown])
    assert (first.gain, first.gain_error, first.generated_std) == (1.5, 0.5, 14.14)
    assert (both.gain, both.gain_error, both.generated_std) == (2.5, 1.0, 1.41)
