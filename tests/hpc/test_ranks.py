"""Both stages on several ranks: DeepSpeed ZeRO over gloo, started by torchrun on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import hpc.ranks.zero
from hpc.errors import ClusterError
from hpc.ranks.distributed import Place
from hpc.ranks.watchdog import Watchdog
from hpc.ranks.zero import require_installed, zero_from
from tests.conftest import TINY, Program, error_line

STEPS = ["recipe.inject.steps=20", "recipe.tune.steps=20", "checkpoint_every=10", "only=[tune]"]
SHARED = [*TINY, *STEPS, "recipe.inject.contexts_per_step=6", "recipe.tune.contexts_per_step=6"]
# the tokens at the rate of the rest: AdamW makes the rounding of gradients near 0 as large as other steps
SEVERAL = [
    "zoo.training.batch_size=64",
    "zoo.training.epochs=3",
    "generator.drop_data=0.3",
    "generator.foreign_data=0.4",
    "recipe.inject.token_lr_scale=1",
]
CHECKPOINT, BEFORE = "checkpoints/step-000020.safetensors", "checkpoints/step-000010.safetensors"


def run(root: Path, num_ranks: int, *arguments: str, module: str = "neurogen.run") -> subprocess.CompletedProcess[str]:
    """python -m neurogen.run on this many ranks, in the same number of threads each."""
    ranks = ["torch.distributed.run", f"--nproc-per-node={num_ranks}", f"--master-port={free_port()}", "-m", module]
    return subprocess.run(
        [sys.executable, "-m", *(ranks if num_ranks > 1 else [module]), *SHARED, f"root={root}", *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=root.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an undisturbed run of one process without DeepSpeed."""
    root = tmp_path_factory.mktemp("one") / "runs"
    process = run(root, 1)
    assert process.returncode == 0, process.stderr
    return root


def with_zoo_of(other: Path, root: Path) -> Path:
    for kind in ("reference", "classical"):
        if (other / kind).exists():
            shutil.copytree(other / kind, root / kind)
    return root


def stage(root: Path, kind: str) -> Path:
    (folder,) = (root / kind).iterdir()
    return folder


def losses(root: Path, kind: str) -> list[float]:
    return [row["loss"] for row in json.loads((stage(root, kind) / "metrics.json").read_text())["history"][1:]]


def assert_same(one: Path, other: Path, kind: str, of_moments: float = 1e-3) -> None:
    """The first loss in all digits that float32 has; losses, values and moments after 20 steps within its rounding."""
    assert losses(other, kind)[0] == pytest.approx(losses(one, kind)[0], rel=1e-6)
    assert losses(other, kind) == pytest.approx(losses(one, kind), rel=1e-4)
    states = [load_file(stage(root, kind) / CHECKPOINT) for root in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        atol = of_moments * float(value.abs().max()) if name.startswith("optimizer/") else 5e-5
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=atol, msg=lambda text, at=name: at + text)


@pytest.mark.parametrize(
    "zero", ["stage1", "stage2", "stage3", "stage3 zero.whole_below=0", "stage3_offload zero.whole_below=0"]
)
def test_two_ranks_do_what_one_process_does(one_process: Path, tmp_path: Path, zero: str) -> None:
    root = with_zoo_of(one_process, tmp_path / "runs")
    process = run(root, 2, *f"zero={zero}".split())
    assert process.returncode == 0, process.stdout + process.stderr
    for kind in ("inject", "tune"):
        assert_same(one_process, root, kind)
        about = json.loads((stage(root, kind) / "environment.json").read_text())
        assert about["ranks"] == 2
    assert process.stderr.count("tune: 20/20 steps") == 1  # rank 0 alone shows progress


@pytest.fixture(scope="module")
def tasks_of_one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks") / "runs"
    process = run(root, 1, *SEVERAL, module="tests.hpc.together")
    assert process.returncode == 0, process.stderr
    return root


@pytest.mark.parametrize("zero", ["stage1", "stage2", "stage3", "stage3 zero.whole_below=0"])
def test_several_tasks_in_turn_do_what_they_do_in_one_process(
    tasks_of_one_process: Path, tmp_path: Path, zero: str
) -> None:
    """What belongs to one task rests while the others have their steps."""
    root = with_zoo_of(tasks_of_one_process, tmp_path / "runs")
    process = run(root, 2, *SEVERAL, *f"zero={zero}".split(), module="tests.hpc.together")
    assert process.returncode == 0, process.stdout + process.stderr
    for kind in ("inject", "tune"):
        assert_same(tasks_of_one_process, root, kind, of_moments=5e-3)  # each task's steps are few


@pytest.mark.parametrize("zero", ["stage2", "stage3"])
def test_a_bfloat16_backbone_and_what_ranks_hold(tmp_path: Path, zero: str) -> None:
    """As on GPUs: what is frozen is bfloat16, what is trained float32; and every rank holds what dry_run=true says."""
    sizes = ["dataset=digits", "target=cnn_small", "backbone=tiny_llama", "device=cpu"]
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    process = subprocess.run(
        [*program, "-m", "tests.hpc.held", f"zero={zero}", "dtype=bfloat16", *sizes],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    ranks = [json.loads(line) for line in re.findall(r"HELD (\{.*\})", process.stdout)]
    assert len(ranks) == 2
    for rank in ranks:
        assert rank["dtypes"] == [[False, "torch.bfloat16"], [True, "torch.float32"]]
        assert rank["losses"][-1] < 0.9 * rank["losses"][0]
        for what in ("backbone", "values", "moments"):
            assert rank[what] == pytest.approx(rank["expected"][what], rel=0.05), what


def test_no_rank_but_the_first_holds_the_whole_backbone_while_it_loads(tmp_path: Path) -> None:
    """A Llama of 1.3 GB, whose embedding is as small a part of it as in those of 7–8B; the peak on one of two ranks."""
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    from neurogen.generator.pretrained import _byte_tokenizer

    about = LlamaConfig(
        hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=16, vocab_size=10240,
        num_key_value_heads=16,
    )  # fmt: skip
    LlamaModel(about).save_pretrained(tmp_path / "llama")
    tokenizer: PreTrainedTokenizerFast = _byte_tokenizer(about)
    tokenizer.save_pretrained(tmp_path / "llama")
    own = ["backbone=causal_lm", f"backbone.model={tmp_path}/llama"]
    together = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    peaks = {}
    for zero, start in (("none", []), ("stage3", together)):
        process = subprocess.run(
            [sys.executable, *start, "-m", "tests.hpc.loading", f"zero={zero}", *own],
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, cwd=Path(__file__).parents[2],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stdout + process.stderr
        peaks[zero] = {int(rank): int(mb) for rank, mb in re.findall(r"LOADING rank (\d): (\d+) MB", process.stdout)}
    assert peaks["none"][0] > 1250
    assert peaks["stage3"][1] <= 0.75 * peaks["none"][0], peaks


def test_a_vision_backbone_in_shares(tmp_path: Path) -> None:
    """Modules that only some contexts use, and a processor's pictures."""
    vision = ["backbone=tiny_qwen2_vl", "recipe.inject.steps=4", "only=[inject]"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(one, 1, *vision).returncode == 0
    process = run(with_zoo_of(one, two), 2, "zero=stage3", *vision)
    assert process.returncode == 0, process.stdout + process.stderr
    assert losses(two, "inject") == pytest.approx(losses(one, "inject"), rel=1e-4)


@pytest.mark.parametrize(("before", "after"), [((2, "stage3"), (1, "none")), ((1, "none"), (3, "stage2"))])
def test_a_checkpoint_is_free_of_the_number_of_ranks(
    one_process: Path, tmp_path: Path, before: tuple[int, str], after: tuple[int, str]
) -> None:
    """The second half of stage 1 on another number of ranks, from the checkpoint in its middle."""
    root = tmp_path / "runs"
    if before[0] == 1:
        shutil.copytree(one_process, root)
    else:
        process = run(with_zoo_of(one_process, root), before[0], f"zero={before[1]}", "only=[inject]")
        assert process.returncode == 0, process.stderr
    folder = stage(root, "inject")
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:-100])  # killed while it was written
    resumed = run(root, after[0], f"zero={after[1]}", "only=[inject]")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "step-000020.safetensors is broken" in resumed.stdout
    assert "continuing from step 10" in resumed.stdout
    assert_same(one_process, root, "inject")


def test_what_ranks_cannot_do_is_said_in_one_line(tmp_path: Path) -> None:
    """Every rank ends."""
    for arguments, message in (
        (
            ["zero=stage2", "recipe.inject.contexts_per_step=3"],
            "cannot be shared by 2 ranks; set it to a multiple of 2",
        ),
        (["zero=none"], "zero=none is for one process, and 2 were started"),
    ):
        process = run(tmp_path / "runs", 2, *arguments)
        assert process.returncode == 1
        assert re.search(rf"^error: .*{message}", process.stderr, re.MULTILINE), process.stderr


def test_a_port_in_use_is_named(program: Program) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        meeting = {
            "RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(taken.getsockname()[1]),
        }
        process = program("run", *TINY, "zero=stage2", **meeting)
    assert "is in use; set another one, +cluster.environment.MASTER_PORT" in error_line(process)


def test_zero_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"stage": 2, "offload": False, "whole_below": 0, "rank_timeout_s": 300}
    assert zero_from(good).stage == 2
    for change, message in (
        ({"stage": 4}, "zero.stage=4 is unknown; allowed: 0, 1, 2, 3"),
        ({"offload": True}, "zero.offload=true needs zero.stage=3, which is 2"),
        ({"rank_timeout_s": 0}, "zero.rank_timeout_s=0 must be above 0"),
        ({"colour": "red"}, "zero: colour unknown or missing"),
    ):
        with pytest.raises(ClusterError, match=message):
            zero_from(good | change)
    monkeypatch.setattr(hpc.ranks.zero.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="zero=stage2 needs DeepSpeed; pip install"):
        require_installed(zero_from(good))


def test_ranks_are_found_in_the_environment() -> None:
    srun = {"SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7"}
    found = Place.of(srun | {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1"})
    assert (found.rank, found.size, found.local_rank, found.address, found.port) == (3, 4, 1, "10.0.0.1", 20007)
    assert Place.of({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}).size == 1  # in a batch script, outside of srun


def test_the_rank_that_hangs_is_told_from_those_that_wait() -> None:
    """Where ranks stand: 1 in our code for too long, 0 and 2 in a collective since then."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)
    watchdog = Watchdog(store, 0, 3, timeout_s=10.0, when_lost=lambda message: None)
    waits = {"beat": 5, "idle_s": 11.0, "where": "waiting for others zero.py:7", "host": "n1"}
    hangs = {"beat": 5, "idle_s": 12.0, "where": "in tune.py:30", "host": "n2"}
    works = {"beat": 5, "idle_s": 0.5, "where": "in zoo.py:9", "host": "n2"}
    assert watchdog._lost({0: waits, 1: hangs, 2: waits}, {}) == "rank 1 on n2 has stood still for 12 s in tune.py:30"
    assert watchdog._lost({0: waits, 1: works, 2: waits}, {}) == ""  # they wait for one that works
    assert watchdog._lost({0: waits, 1: waits, 2: waits}, {}).count("waiting for others") == 3
    loads = {"beat": 5, "idle_s": 999.0, "where": "outside pretrained.py:9", "host": "n1"}  # a download, say
    assert watchdog._lost({0: loads, 1: waits, 2: waits}, {}) == ""
    silent = watchdog._lost({0: works, 1: works}, {1: (5, time.monotonic() - 11)})
    assert silent.startswith("rank 1 on n2 has not been heard of for 11 s")
    assert watchdog._lost({0: works}, {1: (5, time.monotonic() - 11)}) == ""  # it has left
