"""`python -m neurogen.aggregate` as a command: its help at once, its errors in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import NoReturn

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hpc.jobs.sweep import as_yaml
from neurogen.aggregate import aggregate_again, experiments_in, study_in, write_costs
from neurogen.choices import conf_folder
from neurogen.config import Experiment
from neurogen.errors import UserError
from neurogen.process import run_experiment
from tests.conftest import TINY, FinishedRun, Program, error_line


def test_help_needs_none_of_the_heavy_packages() -> None:
    """So it is there at once; and so is a plan, which imports the module."""
    heavy = "{'torch', 'matplotlib', 'jinja2', 'omegaconf'} & set(sys.modules)"
    program = (
        "import sys, neurogen.aggregate\n"
        "sys.argv = ['aggregate', '--help']\n"
        "try: neurogen.aggregate.main()\n"
        f"except SystemExit as stop: assert stop.code == 0 and not {heavy}, {heavy}\n"
        "else: raise AssertionError('it goes on after its help')\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "ROOT/sweeps/NAME" in process.stdout


def test_a_folder_that_is_no_sweep_is_refused_in_one_line(program: Program, tmp_path: Path) -> None:
    line = error_line(program("aggregate", str(tmp_path)))
    assert f"{tmp_path} holds no configs/*.yaml; give the folder of a sweep" in line
    assert "the following arguments are required: sweep" in error_line(program("aggregate"))
    assert "unrecognized arguments: b" in error_line(program("aggregate", "a", "b"))


def finished_sweep(tiny_run: FinishedRun, root: Path, *words: str) -> Path:
    """The folder of a sweep of one point that has run, as if its config had these words in it, in a moved root."""
    shutil.copytree(tiny_run.folder / "runs", root)
    (folder,) = (root / "sweeps").iterdir()
    return with_config(folder, *words)


def with_config(folder: Path, *words: str) -> Path:
    """The folder, with the config of a point in it as a sweep keeps it."""
    (folder / "configs").mkdir(parents=True)
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose("config", [*TINY, *words])
    resolved = not any("oc.env" in word for word in words)
    (folder / "configs" / "0000.yaml").write_text(OmegaConf.to_yaml(config, resolve=resolved))
    return folder


def test_a_moved_sweep_is_made_again_where_it_is(program: Program, tiny_run: FinishedRun, tmp_path: Path) -> None:
    folder = finished_sweep(tiny_run, tmp_path / "moved (1) [x]")
    (folder / "results.csv").unlink()
    process = program("aggregate", str(folder))
    assert process.returncode == 0, process.stderr
    assert "generated, after stage 1" in process.stdout
    assert f"--logdir '{tmp_path}/moved (1) [x]'" in process.stdout
    assert (folder / "results.csv").is_file()
    (hparams,) = folder.glob("hparams-*")
    assert len(list(hparams.iterdir())) == 1  # the earlier table's are gone
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dataset.version='2'"], "the data or the code of NAME have changed since; run the sweep again"),
        (["dataset.load=image_folder", "dataset.name=gone", "dataset.path=/gone"], "dataset.path=/gone does not exist"),
    ],
)
def test_the_table_of_a_sweep_whose_data_have_changed_or_gone_is_shown(
    program: Program, tiny_run: FinishedRun, tmp_path: Path, words: list[str], line: str
) -> None:
    folder = finished_sweep(tiny_run, tmp_path / "runs", *words)
    before = (folder / "results.json").stat().st_mtime_ns
    process = program("aggregate", str(folder))
    assert process.returncode == 0, process.stderr
    assert f"shown as it was made: {line.replace('NAME', folder.name)}" in process.stdout
    assert "generated, after stage 1" in process.stdout
    assert (folder / "results.json").stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    (folder / "DONE").unlink()
    process = program("aggregate", str(folder))
    assert process.returncode == 3
    assert "has the table of a part of its sweep; run the sweep again" in process.stderr
    (folder / "results.json").unlink()
    assert line.replace("NAME", folder.name) in error_line(program("aggregate", str(folder)))


def test_where_tables_cannot_be_written_the_folder_is_to_be_mended(
    tiny_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another root, which is what a run would need, is no argument of this command."""
    folder = finished_sweep(tiny_run, tmp_path / "runs")
    (folder / "results.csv").unlink()
    (folder / "results.csv").mkdir()
    aggregate_again(folder)
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"shown as it was made: cannot write \S+results.csv \(.*\); free some space or make the", shown)
    assert "generated, after stage 1" in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["dataset.load=image_folder", "dataset.path=/gone"], "dataset.path=/gone does not exist"),
        (["target.build=tests.report.test_aggregate.never"], "configs are not those of this sweep"),
        (["name=${oc.env:HOME}"], "0000.yaml has a ${…}, which no sweep has written"),
    ],
)
def test_a_table_is_made_where_nothing_can_be_estimated(
    tiny_run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    """Data that are gone, and configs that others have replaced: no function is called that these name."""
    table = study_in(finished_sweep(tiny_run, tmp_path / "runs"))
    shutil.rmtree(table.folder / "configs")
    with_config(table.folder, *words)
    assert write_costs(table) is None
    assert re.search(f"times are not compared with an estimate: .*{re.escape(why)}", capsys.readouterr().out)


def never(*given: object, **options: object) -> NoReturn:
    """A target that may not be built."""
    raise AssertionError(given, options)


@pytest.mark.parametrize("before", ["of ", "of\t", "\ufeff", "\\\\"])
def test_a_text_that_a_sweep_has_escaped_is_no_reference(tmp_path: Path, before: str) -> None:
    """However YAML has to write it."""
    folder = with_config(tmp_path / "runs" / "sweeps" / "s")
    (path,) = (folder / "configs").iterdir()
    config = OmegaConf.create(path.read_text())
    config.dataset.title = before.replace("\\", "\\\\") + r"\${HOME}"
    path.write_text("".join(as_yaml([config])))
    assert experiments_in(folder)[0].dataset.title == f"{before}${{HOME}}"


def test_a_config_with_half_a_reference_is_broken(tmp_path: Path) -> None:
    folder = with_config(tmp_path / "runs" / "sweeps" / "s")
    (path,) = (folder / "configs").iterdir()
    path.write_text("name: '${x'")
    with pytest.raises(UserError, match=r"0000.yaml is broken \("):
        experiments_in(folder)


def test_a_reference_is_one_however_it_is_written(tmp_path: Path) -> None:
    folder = with_config(tmp_path / "runs" / "sweeps" / "s", "dataset.title=HERE")
    (path,) = (folder / "configs").iterdir()
    path.write_text(path.read_text().replace("HERE", '"\\x24{oc.env:HOME}"'))
    with pytest.raises(UserError, match="which no sweep has written"):
        experiments_in(folder)


def test_the_table_of_a_single_run_is_shown(program: Program, tiny_run: FinishedRun) -> None:
    process = program("aggregate", str(tiny_run.step("sweeps")))
    assert process.returncode == 0, process.stderr
    assert "is of a single run; the same run again makes a new table" in process.stdout
    assert tiny_run.table.splitlines()[1:12] == process.stdout.splitlines()[2:13]


def test_a_run_whose_data_are_gone_says_where_its_table_is(experiment: Callable[..., Experiment]) -> None:
    gone = experiment("dataset.load=image_folder", "dataset.name=gone", "dataset.path=/gone", "name=a")
    with pytest.raises(UserError, match=r"give the folder \(or file\) with your data$"):
        run_experiment(gone, Event())
    table = Path(gone.root) / "sweeps" / "a-0123" / "results.json"
    table.parent.mkdir(parents=True)
    table.touch()
    with pytest.raises(UserError, match=f"made before are shown by python -m neurogen.aggregate {table.parent}$"):
        run_experiment(gone, Event())
