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
from tests.conftest import TINY, TINY_TEXT, Program, error_line

ROW = "dataset target n_ok num_test".split()


def row_of(root: Path) -> dict[str, object]:
    (found,) = root.glob("sweeps/*/results.json")
    (row,) = json.loads(found.read_text())
    return dict(row)


@pytest.mark.parametrize("target", ["mlp", "rnn"])
def test_a_text_cell_from_nothing_to_networks(
    program: Program,
    experiment,
    runtime,
    tmp_path: Path,
    target: str,  # type: ignore[no-untyped-def]
) -> None:
    arguments = [*TINY_TEXT, f"target={target}", "target.options.hidden=16"]
    process = program("run", *arguments)
    assert process.returncode == 0, process.stderr
    assert "texts are longer than 24 tokens and were cut" in process.stdout
    row = row_of(tmp_path / "runs")
    assert [row[name] for name in ROW] == ["rotten_tomatoes", target, 2, 2551]
    (picture,) = (tmp_path / "runs").glob("sweeps/*/predictions-*.png")
    assert picture.stat().st_size > 20_000  # sentences

    (folder,) = (tmp_path / "runs").glob("tune/*")
    reviews = pandas.DataFrame(
        {"text": ["a dull film", "a joy", "so bad", "fine work"] * 3, "label": ["rotten", "fresh"] * 6}
    )
    reviews.to_csv(tmp_path / "reviews.csv", index=False)
    asked = ["generate", f"generator={folder}", "num_threads=1", "samples=reviews.csv"]
    own = program(*asked, "test=own")
    assert own.returncode == 0, own.stderr
    assert "n = 2551" in own.stdout
    assert program(*asked, "test=reviews.csv").stdout.count("n = 12") == 1
    reviews.assign(label=[0, 1] * 6).to_parquet(tmp_path / "numbers.parquet")  # as the hub has it
    assert program(*asked, "test=numbers.parquet").stdout.count("n = 12") == 1
    (tmp_path / "other.csv").write_text("text,label\na film,good\n")
    assert "label 'good'; allowed: rotten, fresh" in error_line(program(*asked, "test=other.csv"))

    if target == "rnn":  # what the file holds is a network of plain torch, on the embedding that the generator holds
        (embed,) = (tmp_path / "runs").glob("embed/*")
        dataset = load_texts(experiment(*arguments).dataset, embed)
        network = rnn(TextShape(16, 2), 16)
        network.load_state_dict(load_file(tmp_path / "network.safetensors"))
        wrong = (network(dataset.test.inputs()).argmax(1) != dataset.test.labels).double().mean()
        assert f"test accuracy {100 * (1 - float(wrong)):.2f} %" in own.stdout
        table = load_file(folder / "generator.safetensors")["rotten_tomatoes-rnn/preparation.table"]
        assert torch.equal(table, dataset.preparation.table)


def test_two_targets_of_one_text_dataset_share_its_tokens(program: Program, tmp_path: Path) -> None:
    assert program("run", *TINY_TEXT).returncode == 0
    other = program("run", *TINY_TEXT, "target=rnn", "target.options.hidden=4")
    assert "embed rotten_tomatoes" not in other.stdout
    assert len(list((tmp_path / "runs").glob("embed/*"))) == 1
    assert len(list((tmp_path / "runs").glob("reference/*"))) == 2


def test_a_table_of_ones_own_from_nothing_to_a_generated_network(program: Program, tmp_path: Path) -> None:
    """Three classes that anyone can tell apart by a word."""
    words = ["red", "green", "blue"]
    texts = [f"number {n} is {words[n % 3] * 3}" for n in range(300)]
    pandas.DataFrame({"says": texts, "colour": [words[n % 3] for n in range(300)]}).to_json(
        tmp_path / "colours.jsonl", orient="records", lines=True
    )
    own = [
        "dataset=text_table",
        "dataset.path=colours.jsonl",
        "dataset.text.columns=[says]",
        "dataset.text.label=colour",
    ]
    process = program(
        "run",
        *TINY_TEXT,
        *own,
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
