"""Results as types: the same JSON on the way out, and a word to the user where a file has another form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neurogen import store
from neurogen.config import Experiment
from neurogen.errors import UserError
from neurogen.report.formats import read_rows
from neurogen.study.execution import in_order
from neurogen.study.graph import steps_of
from neurogen.study.results import EvaluationResult, to_json
from neurogen.study.rows import Row
from neurogen.training.runtime import Runtime


def test_results_on_disk_are_read_as_they_were_written(experiment: Callable[..., Experiment], runtime: Runtime) -> None:
    last = steps_of([experiment("recipe.tune.steps=2")])
    for step in in_order(last):
        step.run(runtime)
    (evaluation,) = last.evaluations
    result, on_disk = evaluation.result(), evaluation.metrics()
    assert isinstance(result, EvaluationResult)
    assert to_json(result) == {key: value for key, value in on_disk.items() if key not in ("seconds", "gpu_hours")}
    (row,) = read_rows(last.folder)
    assert isinstance(row, Row)
    assert [to_json(row)] == store.read_json(last.folder / "results.json") == last.metrics()["rows"]
    assert row.populations["generated"].accuracy == row.generated_mean
    history = evaluation.history(evaluation.tune)
    assert [point.step for point in history] == [0, 1, 2]
    assert (history[0].loss, history[1].validation_accuracy) == (None, None)

    del on_disk["num_test"], on_disk["conditions"]["right"]["change"]
    store.write_json(evaluation.folder / "metrics.json", on_disk)
    store.mark_done(evaluation.folder)
    with pytest.raises(UserError, match=r"another version of the program \(.*change.*num_test.*delete it to make") as e:
        evaluation.result()
    assert str(evaluation.folder) in str(e.value)
