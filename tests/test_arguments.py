"""The command line before Hydra reads it."""

from __future__ import annotations

import dataclasses

import pytest

from hpc.jobs.cluster import Resources
from neurogen.arguments import for_hydra
from neurogen.errors import UserError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run seed=0", "run seed=0"),
        ("run -m seed=0,1", "run -m hydra/launcher=local seed=0,1"),
        ("run seed=0,1 -m", "run -m hydra/launcher=local seed=0,1"),
        ("run a=1 -m b=2", "run -m hydra/launcher=local a=1 b=2"),
        ("run --multirun a=1 --info", "run --multirun --info hydra/launcher=local a=1"),
        ("run --info defaults a=1 -c job", "run --info defaults -c job a=1"),
        ("run -m a=1 --config-dir more", "run -m --config-dir more hydra/launcher=local a=1"),
        ("run --config-dir=more -m +study=x", "run --config-dir=more -m hydra/launcher=local +study=x"),
        ("run -m", "run -m hydra/launcher=local"),
        ("run -m hydra/launcher=slurm", "run -m cluster=a100 hydra/launcher=slurm"),
        ("run --cfg job hydra/launcher=slurm", "run --cfg job cluster=a100 hydra/launcher=slurm"),
        ("run hydra/launcher=slurm stop_after=fetch", "run cluster=a100 hydra/launcher=slurm stop_after=fetch"),
        ("run hydra/launcher=local", "run hydra/launcher=local"),
    ],
)
def test_a_sweep_is_one_graph_unless_asked_otherwise(words: str, expected: str) -> None:
    assert for_hydra(words.split()) == expected.split()


def test_points_and_variants_of_a_study_are_chosen_by_name() -> None:
    words = ["run", "-m", "hydra/launcher=local", "+study=x", "point=a,b", "variant=1 layer,8 layers"]
    chosen = ["hydra.sweeper.only.points=[a,b]", "hydra.sweeper.only.variants=[1 layer,8 layers]"]
    assert for_hydra(words) == [*words[:4], *chosen]


def test_older_spellings_mean_the_same_or_say_what_to_write() -> None:
    study = for_hydra(["run", "-m", "+experiment=table1_small"])
    assert study == ["run", "-m", "hydra/launcher=local", "+study=table1_small"]
    for words, message in (
        (["-m", "cell=mnist5k_cnn", "seed=0,1"], "cell=mnist5k_cnn: .* point=NAME"),
        (["-m", "scale=large"], "backbone=smollm2_135m, or qwen2_vl_7b"),
        (["study=mine"], "study_name=NAME"),
        (["hydra/launcher=slurm", "cluster=here"], "hydra/launcher=slurm needs -m"),
        (["variant=full"], r"add -m and \+study=NAME"),
        (["-m", "--cfg", "job"], "--cfg shows the config of one point"),
    ):
        with pytest.raises(UserError, match=message):
            for_hydra(["run", *words])


def test_a_key_that_is_given_twice_says_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert for_hydra(["run", "seed=1", "dataset=digits", "seed=2"]) == ["run", "dataset=digits", "seed=2"]
    assert capsys.readouterr().err == "  seed=1 does not count, since seed=2 comes after it\n"
    assert for_hydra(["run", "seed=2", "seed=2"]) == ["run", "seed=2"]
    assert capsys.readouterr().err == ""


def test_members_of_a_cluster_need_no_sign() -> None:
    """Hydra takes a key that the file does not have only with a + before it, and one that it has only without."""
    words = ["cluster.steps.tune.nodes=2", "+cluster.additional.mem=0", "++cluster.environment.A=b=c"]
    assert for_hydra(["run", *words]) == ["run", *(f"++{word.lstrip('+')}" for word in words)]
    fields = [f"cluster.steps.tune.{field.name}=1" for field in dataclasses.fields(Resources)]
    assert for_hydra(["run", *fields]) == ["run", *(f"++{word}" for word in fields)]
    others = [
        "cluster.steps.tune.nodez=2",
        "cluster.steps={}",
        "cluster.partition=a",
        "~cluster.steps.tune",
        "cluster.steps.tune={nodes: 2}",
    ]
    assert for_hydra(["run", *others]) == ["run", *others]
    assert for_hydra(["run", "cluster.steps.tune.nodes=2", "+cluster.steps.tune.nodes=3"])[1:] == [
        "++cluster.steps.tune.nodes=3"
    ]


def test_a_study_without_m_says_that_it_is_a_single_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert for_hydra(["run", "+study=x", "--cfg", "job"]) == ["run", "--cfg", "job", "+study=x"]
    assert capsys.readouterr().err == ""
    assert for_hydra(["run", "+experiment=x"]) == ["run", "+study=x"]
    assert (
        capsys.readouterr().err == "  +study=x without -m is a single run in its settings; add -m for its experiments\n"
    )
