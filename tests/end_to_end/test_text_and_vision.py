"""Cells with texts and with a vision LLM, as a user types them: from nothing to a table, and networks on demand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file

from neurogen.data.preparation import TextShape
from neurogen.data.tokenised import load_texts
from neurogen.targets.networks import rnn
from tests.conftest import TINY, TINY_TEXT, FinishedRun, Program, error_line, finished_run, tiny

ROW = "dataset target n_ok num_test".split()


def row_of(root: Path) -> dict[str, object]:
    """The only row of the only table."""
    (results,) = root.glob("sweeps/*/results.json")
    (row,) = json.loads(results.read_text())
    return dict(row)


HIDDEN = "target.options.hidden=16"


@pytest.fixture(scope="session")
def text_runs(shared: Path) -> dict[str, FinishedRun]:
    """Film reviews with an MLP, and after it, in the same root, with an RNN."""
    return {
        target: finished_run(shared / "texts", target, [*TINY_TEXT, f"target={target}", HIDDEN])
        for target in ("mlp", "rnn")
    }


@pytest.mark.parametrize("target", ["mlp", "rnn"])
def test_a_text_cell_from_nothing_to_networks(
    text_runs: dict[str, FinishedRun], program: Program, tmp_path: Path, target: str
) -> None:
    root = text_runs[target].folder / "runs"
    (folder,) = root.glob(f"tune/*-{target}-*")
    (results,) = root.glob(f"sweeps/*-{target}-*/results.json")
    (row,) = json.loads(results.read_text())
    assert [row[name] for name in ROW] == ["rotten_tomatoes", target, 2, 2551]
    (picture,) = results.parent.glob("predictions-*.png")
    assert picture.stat().st_size > 20_000  # sentences

    reviews = pandas.DataFrame(
        {"text": ["a dull film", "a joy", "so bad", "fine work"] * 3, "label": ["rotten", "fresh"] * 6}
    )
    reviews.to_csv(tmp_path / "reviews.csv", index=False)
    words = ["generate", f"generator={folder}", "num_threads=1", "samples=reviews.csv"]
    generated = program(*words, "test=own")
    assert generated.returncode == 0, generated.stderr
    assert "n = 2551" in generated.stdout
    assert program(*words, "test=reviews.csv").stdout.count("n = 12") == 1
    reviews.assign(label=[0, 1] * 6).to_parquet(tmp_path / "numbers.parquet")  # as the hub has it
    assert program(*words, "test=numbers.parquet").stdout.count("n = 12") == 1
    (tmp_path / "other.csv").write_text("text,label\na film,good\n")
    assert "label 'good'; allowed: rotten, fresh" in error_line(program(*words, "test=other.csv"))

    if target == "rnn":  # what the file holds is a network of plain torch, on the embedding that the generator holds
        (embed,) = root.glob("embed/*")
        dataset = load_texts(tiny(root, *TINY_TEXT, f"target={target}", HIDDEN).dataset, embed)
        network = rnn(TextShape(16, 2), 16)
        network.load_state_dict(load_file(tmp_path / "network.safetensors"))
        is_wrong = (network(dataset.test.inputs()).argmax(1) != dataset.test.labels).double()
        assert f"test accuracy {100 * (1 - float(is_wrong.mean())):.2f} %" in generated.stdout
        table = load_file(folder / "generator.safetensors")["rotten_tomatoes-rnn/preparation.table"]
        assert torch.equal(table, dataset.preparation.table)


def test_two_targets_of_one_text_dataset_share_its_tokens(text_runs: dict[str, FinishedRun]) -> None:
    first, second = text_runs.values()
    assert "embed rotten_tomatoes" in first.stdout
    assert "texts are longer than 24 tokens and were cut" in first.stdout
    assert "embed rotten_tomatoes" not in second.stdout
    assert len(list((first.folder / "runs").glob("embed/*"))) == 1
    assert len(list((first.folder / "runs").glob("reference/*"))) == 2


def test_a_table_of_ones_own_from_nothing_to_a_generated_network(program: Program, tmp_path: Path) -> None:
    """Three classes that anyone can tell apart by a word."""
    words = ["red", "green", "blue"]
    texts = [f"number {n} is {words[n % 3] * 3}" for n in range(300)]
    pandas.DataFrame({"says": texts, "colour": [words[n % 3] for n in range(300)]}).to_json(
        tmp_path / "colours.jsonl", orient="records", lines=True
    )
    table = [
        "dataset=text_table",
        "dataset.path=colours.jsonl",
        "dataset.text.columns=[says]",
        "dataset.text.label=colour",
    ]
    process = program(
        "run",
        *TINY_TEXT,
        *table,
        "dataset.limit=null",
        "zoo.training.epochs=20",
        "recipe.inject.steps=40",
        "recipe.tune.steps=20",
    )
    assert process.returncode == 0, process.stderr
    row = row_of(tmp_path / "runs")
    assert (row["dataset"], row["num_test"]) == ("text_table", 60)
    assert isinstance(row["generated_mean"], float)
    assert row["generated_mean"] > 60  # a third by chance


def test_a_vision_cell_from_nothing_to_networks(program: Program, tmp_path: Path) -> None:
    process = program("run", *TINY, "backbone=tiny_qwen2_vl")
    assert process.returncode == 0, process.stderr
    row = row_of(tmp_path / "runs")
    assert [row[name] for name in ROW] == ["digits", "cnn_small", 2, 359]
    (folder,) = (tmp_path / "runs").glob("tune/*")
    assert not [name for name in load_file(folder / "generator.safetensors") if name.startswith("patches")]
    generated = program("generate", f"generator={folder}", "test=own", "num_threads=1")
    assert "n = 359" in generated.stdout, generated.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["target=lenet"],
            "dataset rotten_tomatoes is text, target lenet classifies image; use target=mlp or target=rnn",
        ),
        (
            ["dataset.text.embedding_dim=999"],
            "dataset.text.embedding_dim=999 is more than the backbone's hidden size, 64",
        ),
        (["backbone.vision=true"], "backbone.vision=true, but tiny_llama (llama) reads text only"),
    ],
)
def test_text_that_cannot_work_is_refused(program: Program, arguments: list[str], message: str) -> None:
    assert message in error_line(program("run", *TINY_TEXT, *arguments))
