"""Reference networks: what their seeds share, on whatever number of threads; files that are not theirs."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.errors import UserError
from neurogen.study import graph
from neurogen.study.pipeline import Reference, Zoo
from neurogen.targets.fitting import initialised
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.zoo import load_network, load_zoo, network_path
from neurogen.training.runtime import Runtime, runtime_here
from tests.conftest import Composed


def planned(experiment: Experiment) -> Zoo:
    """Its zoo, before anything is trained."""
    return graph.zoo_of(experiment, graph.Identities())


def reference(experiment: Experiment) -> Reference:
    """The only step of its zoo."""
    return planned(experiment).references[0]


def zoo_of(experiment: Experiment, runtime: Runtime) -> torch.Tensor:
    """The trained zoo, [networks, params]."""
    zoo = planned(experiment)
    for step in zoo.references:
        step.run(runtime)
    dataset = load_images(experiment.dataset)
    return load_zoo(zoo, dataset, build_network(experiment.target, dataset.shape))


@pytest.fixture
def copied(shared_experiment: Composed, experiment: Composed, runtime: Runtime) -> Experiment:
    """The tiny experiment with a zoo that the test may change."""
    finished, copy = reference(shared_experiment()), experiment()
    finished.run(runtime)
    shutil.copytree(finished.folder, reference(copy).folder)
    return copy


def test_networks_learn_and_differ(shared_experiment: Composed, runtime: Runtime) -> None:
    longer = shared_experiment("zoo.training.epochs=12")
    assert len(torch.unique(zoo_of(longer, runtime), dim=0)) == 3
    metrics = reference(longer).metrics()
    assert min(metrics["validation_accuracy"]) > 0.5
    for curve in metrics["curves"]:
        assert curve["loss"][-1] < curve["loss"][0]


def test_a_shared_zoo_is_closer_to_its_mean_than_an_independent_one(
    shared_experiment: Composed, runtime: Runtime
) -> None:
    shared, independent = (zoo_of(shared_experiment(f"zoo.init={init}"), runtime) for init in ("shared", "independent"))
    assert shared.var(0).mean() < 0.5 * independent.var(0).mean()


def test_the_bits_of_a_network_do_not_depend_on_the_number_of_cores(
    shared_experiment: Composed, experiment: Composed, runtime: Runtime
) -> None:
    on_one_core = zoo_of(shared_experiment(), runtime)
    assert torch.equal(zoo_of(experiment(), runtime_here("cpu", 2)), on_one_core)


def test_chunks_of_a_zoo_are_the_zoo(shared_experiment: Composed, runtime: Runtime) -> None:
    chunked = shared_experiment("zoo.chunk_size=2")
    assert len(planned(chunked).references) == 2
    assert torch.equal(zoo_of(chunked, runtime), zoo_of(shared_experiment(), runtime))


def test_aligning_an_independent_zoo_brings_it_together(shared_experiment: Composed, runtime: Runtime) -> None:
    none, aligned = (
        zoo_of(shared_experiment("zoo.init=independent", f"zoo.align={align}"), runtime)
        for align in ("none", "rebasin")
    )
    assert aligned.var(0).mean() < 0.9 * none.var(0).mean()
    assert torch.equal(aligned.sort(1).values, none.sort(1).values)  # the same values in other places


def test_a_killed_zoo_goes_on_with_the_next_network(copied: Experiment, runtime: Runtime) -> None:
    step = reference(copied)
    whole = zoo_of(copied, runtime)
    first = network_path(step.folder, 0).stat().st_mtime_ns
    for path in (network_path(step.folder, 2), step.folder / "DONE"):
        path.unlink()
    assert torch.equal(zoo_of(copied, runtime), whole)
    assert network_path(step.folder, 0).stat().st_mtime_ns == first


def test_truncated_and_foreign_networks_are_named(copied: Experiment) -> None:
    network = initialised(copied.target, load_images(copied.dataset), 0)
    layout, path = ParameterLayout.of(network), network_path(reference(copied).folder, 1)
    tensors = load_file(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"network-0001.safetensors is not what its step wrote; delete the folder"):
        load_network(path, layout)
    (path.parent / "DONE").write_text("{}", encoding="utf-8")  # as earlier versions wrote it, without digests
    with pytest.raises(UserError, match=r"network-0001.safetensors is missing or broken.*delete the folder"):
        load_network(path, layout)
    save_file({**tensors, "own.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"network-0001.safetensors: these are another network's"):
        load_network(path, layout)


def test_a_diverging_network_ends_the_step_with_advice(experiment: Composed, runtime: Runtime) -> None:
    with pytest.raises(UserError, match=r"the loss of a target network is (nan|inf); lower zoo.training.lr"):
        reference(experiment("zoo.training.lr=1e30")).run(runtime)


def test_data_that_has_changed_is_noticed(shared_experiment: Composed, runtime: Runtime) -> None:
    reference(shared_experiment()).run(runtime)
    fewer = shared_experiment("dataset.limit=500")
    dataset = load_images(fewer.dataset)
    with pytest.raises(UserError, match=r"the data of digits is not what it was when"):
        load_zoo(planned(shared_experiment()), dataset, build_network(fewer.target, dataset.shape))
