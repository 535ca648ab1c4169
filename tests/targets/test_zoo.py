"""Reference networks: what their seeds share, on whatever number of threads; files that are not theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file, save_file

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.errors import UserError
from neurogen.study.graph import zoo_of as planned
from neurogen.study.pipeline import Reference
from neurogen.targets.fitting import initialised
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout
from neurogen.targets.zoo import load_network, load_zoo, network_path
from neurogen.training.runtime import Runtime, runtime_here

Composed = Callable[..., Experiment]


def reference(experiment: Experiment) -> Reference:
    return planned(experiment).references[0]


def zoo_of(experiment: Experiment, runtime: Runtime) -> torch.Tensor:
    zoo = planned(experiment)
    for step in zoo.references:
        step.run(runtime)
    dataset = load_images(experiment.dataset)
    return load_zoo(zoo, dataset, build_network(experiment.target, dataset.shape))


def test_networks_learn_and_differ(experiment: Composed, runtime: Runtime) -> None:
    one = experiment("zoo.training.epochs=12")
    zoo = zoo_of(one, runtime)
    assert len(torch.unique(zoo, dim=0)) == 3
    best = reference(one).metrics()["validation_accuracy"]
    assert min(best) > 0.5
    for curve in reference(one).metrics()["curves"]:
        assert curve["loss"][-1] < curve["loss"][0]


def test_a_shared_zoo_is_closer_to_its_mean_than_an_independent_one(experiment: Composed, runtime: Runtime) -> None:
    shared, independent = (zoo_of(experiment(f"zoo.init={init}"), runtime) for init in ("shared", "independent"))
    assert shared.var(0).mean() < 0.5 * independent.var(0).mean()


def test_the_bits_of_a_network_do_not_depend_on_the_number_of_cores(experiment: Composed) -> None:
    one, two = (zoo_of(experiment(f"root=runs-{n}"), runtime_here("cpu", n)) for n in (1, 2))
    assert torch.equal(one, two)


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)


def test_chunks_of_a_zoo_are_the_zoo(experiment: Composed, runtime: Runtime) -> None:
    whole = zoo_of(experiment(), runtime)
    chunked = experiment("zoo.chunk_size=2")
    assert len(planned(chunked).references) == 2
    assert torch.equal(zoo_of(chunked, runtime), whole)


def test_aligning_an_independent_zoo_brings_it_together(experiment: Composed, runtime: Runtime) -> None:
    none, aligned = (
        zoo_of(experiment("zoo.init=independent", f"zoo.align={align}"), runtime) for align in ("none", "rebasin")
    )
    assert aligned.var(0).mean() < 0.9 * none.var(0).mean()
    assert torch.equal(aligned.sort(1).values, none.sort(1).values)  # the same values in other places


def test_a_killed_zoo_goes_on_with_the_next_network(experiment: Composed, runtime: Runtime) -> None:
    one = experiment()
    step = reference(one)
    whole = zoo_of(one, runtime)
    first = network_path(step.folder, 0).stat().st_mtime_ns
    for path in (network_path(step.folder, 2), step.folder / "DONE"):
        path.unlink()
    assert torch.equal(zoo_of(one, runtime), whole)
    assert network_path(step.folder, 0).stat().st_mtime_ns == first


def test_truncated_and_foreign_networks_are_named(experiment: Composed, runtime: Runtime) -> None:
    one = experiment()
    zoo_of(one, runtime)
    network = initialised(one.target, load_images(one.dataset), 0)
    layout, path = ParameterLayout.of(network), network_path(reference(one).folder, 1)
    tensors = load_file(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"network-0001.safetensors is missing or broken.*delete the folder"):
        load_network(path, layout)
    save_file({**tensors, "own.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"network-0001.safetensors: these are another network's"):
        load_network(path, layout)


def test_a_diverging_network_ends_the_step_with_advice(experiment: Composed, runtime: Runtime) -> None:
    with pytest.raises(UserError, match=r"the loss of a target network is (nan|inf); lower zoo.training.lr"):
        reference(experiment("zoo.training.lr=1e30")).run(runtime)


def test_data_that_has_changed_is_noticed(experiment: Composed, runtime: Runtime) -> None:
    step = reference(experiment())
    step.run(runtime)
    other = experiment("dataset.limit=500")
    dataset = load_images(other.dataset)
    with pytest.raises(UserError, match=r"the data of digits is not what it was when"):
        load_zoo(planned(experiment()), dataset, build_network(other.target, dataset.shape))
