"""What users write into a site's config reaches jobs as it is, and nothing of it runs as code but lines of setup.

bash runs the scripts; in the place of srun is a program that prints its arguments and variables.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpc.errors import ClusterError
from hpc.jobs.cluster import Cluster, cluster_from
from hpc.jobs.graph import Batch
from hpc.jobs.script import script_of
from tests.conftest import tiny
from tests.hpc.conftest import PROGRAM, graph, site

CONTROLS = [chr(code) for code in (*range(32), 127)]
HOSTILE = [
    "'",
    '"',
    "`touch pwned`",
    "$(touch pwned)",
    "; touch pwned;",
    "\\",
    "$HOME",
    "#",
    "%j",
    "*",
    " ",
    "é",
    "&|<>",
]
pieces = st.sampled_from(HOSTILE) | st.characters(exclude_categories=["Cs"], exclude_characters=CONTROLS)
line = st.lists(pieces, min_size=1, max_size=6).map("".join)
several_lines = st.lists(pieces | st.sampled_from(["\n", "\t", "\r"]), max_size=6).map("".join)
folder_name = line.filter(lambda name: not set(name) & set("/%\\:") and name not in (".", ".."))
variable = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True).map("NG_{}".format)
SRUN = f"""#!{sys.executable} -IS
import json, os, sys
print(json.dumps([sys.argv[1:], {{name: os.environ[name] for name in os.environ if name.startswith("NG_")}}]))
"""
NAME = "ng-tune-a"


@cache
def here() -> Cluster:
    return site()


@cache
def tune() -> Batch:
    """The batch of a step."""
    (step,) = (step for step in graph(lambda *words: tiny(Path("nowhere"), *words), "seed=0") if step.kind == "tune")
    return Batch((step,))


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "srun").write_text(SRUN)
    (folder / "srun").chmod(0o755)
    return folder


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.fixed_dictionaries(dict.fromkeys(("partition", "account", "qos", "constraint", "exclude"), line)),
    gpu_type=line,
    additional=line,
    python=line,
    srun=st.lists(line, max_size=3),
    environment=st.dictionaries(variable, several_lines, max_size=3),
    folder=folder_name,
)
@example(
    texts=dict.fromkeys(("partition", "account", "qos", "constraint", "exclude"), "a'; touch pwned #"),
    gpu_type="$(touch pwned)",
    additional="`touch pwned`",
    python="/a b/$(touch pwned)/python",
    srun=["--x='a", '"'],
    environment={"NG_A": "a\ntouch pwned\n'\n\"`touch pwned`$(touch pwned)"},
    folder='it\'s "mine" `touch pwned`',
)
def test_whatever_a_site_says_is_a_word(
    tmp_path: Path,
    bin_folder: Path,
    texts: dict[str, str],
    gpu_type: str,
    additional: str,
    python: str,
    srun: list[str],
    environment: dict[str, str],
    folder: str,
) -> None:
    values = dataclasses.asdict(here()) | texts
    values |= {"gpu_type": gpu_type, "python": python, "srun": srun, "environment": environment}
    values |= {"additional": {"comment": additional}}
    values["steps"]["default"]["gpus_per_node"] = 1
    cluster, place = cluster_from(values), tmp_path / folder / "queue" / NAME
    script = tmp_path / "job.sh"
    text = script_of(tune(), NAME, place, cluster, None, tmp_path / folder, PROGRAM, {}, "d1")
    script.write_text(text, encoding="utf-8", newline="")
    subprocess.run(["bash", "-n", script], check=True)
    run = subprocess.run(
        ["bash", script],
        cwd=tmp_path,
        env={"PATH": f"{bin_folder}:{os.environ['PATH']}"},
        capture_output=True,
        check=True,
    )
    words, variables = json.loads(run.stdout)
    assert words[-(8 + len(srun)) :] == [*srun, python, "-P", "-u", "-m", "hpc", PROGRAM, str(place), "sha256=d1"]
    assert variables == environment
    assert not (tmp_path / "pwned").exists()
    options = [shlex.split(row.removeprefix("#SBATCH ")) for row in text.split("\n") if row.startswith("#SBATCH ")]
    assert [f"--{key.replace('_', '-')}={value}" for key, value in texts.items()] == [
        word for key in texts for (word,) in options if word.startswith(f"--{key}=")
    ]
    assert [f"--comment={additional}"] in options
    assert [f"--gpus-per-node={gpu_type}:1"] in options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({key: "a\ntouch pwned"}, rf"cluster.{key}='a\\ntouch pwned' has a line break")
            for key in ("partition", "account", "qos", "constraint", "exclude", "gpu_type", "container", "python")
        ),
        ({"srun": ["--a", "b\0"]}, r"cluster.srun='b\\x00' has a line break or a control character"),
        ({"additional": {"comment": "a\rb"}}, r"cluster.additional.comment='a\\rb' has a line break"),
        ({"additional": {"comment\ntouch pwned": "a"}}, "cluster.additional has 'comment"),
        ({"additional": {"a=b --c": "a"}}, "cluster.additional has 'a=b --c', which is no option of sbatch"),
        ({"environment": {"A;touch pwned;B": "a"}}, "which is no name of a variable; use letters, digits, _"),
        ({"environment": {"A": "a\0"}}, r"cluster.environment.A='a\\x00' has a zero byte"),
    ],
)
def test_what_is_no_word_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        cluster_from(dataclasses.asdict(here()) | change)


@pytest.mark.parametrize("name", ["a\nb", "50%j", "a\\b", "\x7f"])
def test_a_root_that_slurm_reads_otherwise_is_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / name / "queue" / NAME
    with pytest.raises(ClusterError, match=r"^root=.* has a sign that SLURM reads as something else"):
        script_of(tune(), NAME, place, here(), None, tmp_path, PROGRAM, {}, "d1")


@pytest.mark.parametrize("is_root", [True, False])
def test_a_folder_that_pythonpath_divides_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_root: bool
) -> None:
    """Of root=runs/12:30 jobs would first import from runs/12."""
    divided = tmp_path / "12:30"
    divided.mkdir()
    monkeypatch.chdir(tmp_path if is_root else divided)
    root = divided if is_root else tmp_path
    with pytest.raises(
        ClusterError, match=rf"^{divided}\S* has a :, at which PYTHONPATH is divided; give root= a folder"
    ):
        script_of(tune(), NAME, root / "queue" / NAME, here(), None, root / "code-0" / "a", PROGRAM, {}, "d1")


@pytest.mark.parametrize("before", [{}, {"PYTHONPATH": ""}, {"PYTHONPATH": "/a:/b"}])
def test_pythonpath_has_no_empty_entry(tmp_path: Path, before: dict[str, str]) -> None:
    """Python takes one for the folder in which the job happens to start."""
    text = script_of(tune(), NAME, tmp_path / "queue" / NAME, here(), None, tmp_path, PROGRAM, {}, "d1")
    (row,) = (row for row in text.splitlines() if row.startswith("export PYTHONPATH="))
    printed = subprocess.run(
        ["bash", "-uc", f"{row}; printenv PYTHONPATH"], env=before, capture_output=True, check=True
    )
    assert printed.stdout.decode().strip() == ":".join([str(tmp_path), os.getcwd(), *filter(None, before.values())])


def replaced_by_another(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.mkdir(mode=0o755)


def replaced_by_a_link(folder: Path) -> None:
    """To a folder of the same account, into which others may write."""
    folder.rename(folder.with_name("away"))
    folder.symlink_to("away")


@pytest.mark.parametrize(
    ("change", "is_run"),
    [
        (Path.stat, True),
        (lambda folder: folder.chmod(0o2700), True),  # of a root with chmod g+s
        (lambda folder: folder.rename(folder.with_name("away")), True),  # a site check says what the node does not see
        (replaced_by_another, False),
        (replaced_by_a_link, False),
        (lambda folder: folder.chmod(0o770), False),
        pytest.param(
            lambda folder: os.chown(folder, 4711, -1),
            False,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away"),
        ),
    ],
)
def test_a_job_runs_only_code_that_lies_where_nobody_else_can_enter(
    tmp_path: Path, bin_folder: Path, change: Callable[[Path], object], is_run: bool
) -> None:
    """Whoever may write into a folder above the root can have put another in its place."""
    folder = tmp_path / 'it\'s "mine" $(touch pwned)' / "code-0"
    folder.parent.mkdir()
    folder.mkdir(mode=0o700)
    text = script_of(tune(), NAME, tmp_path / "queue" / NAME, here(), None, folder / "a", PROGRAM, {}, "d1")
    change(folder)
    run = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env={"PATH": f"{bin_folder}:{os.environ['PATH']}", "SLURMD_NODENAME": "n1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, bool(run.stdout)) == ((0, True) if is_run else (1, False))
    problem = f"error: n1: {folder} is not the folder that only this account may enter; submit again, and see who may"
    assert run.stderr == "" if is_run else run.stderr.startswith(problem)
    assert not (tmp_path / "pwned").exists()
