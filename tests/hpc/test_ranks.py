"""Both stages on several ranks of this machine: DeepSpeed ZeRO over gloo.

Most ranks are forks of a process that has imported the libraries; some are started by torchrun, as a user does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TINY
from tests.hpc.forked import free_port, run_ranks

pytestmark = pytest.mark.xdist_group("ranks")  # one worker, since its tests share runs and imported libraries
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
CHECKPOINT = "checkpoints/step-000020.safetensors"


def run(root: Path, num_ranks: int, *arguments: str, module: str = "neurogen.run") -> subprocess.CompletedProcess[str]:
    """A module on this many ranks, in the same number of threads each."""
    return run_ranks(module, [*SHARED, f"root={root}", *arguments], num_ranks, root.parent)


def torchrun(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module on two ranks, as a user starts it."""
    ranks = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}", "-m", module]
    return subprocess.run(
        [sys.executable, "-m", *ranks, *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


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


def assert_same(expected: Path, root: Path, kind: str, of_moments: float = 1e-3, checkpoint: str = CHECKPOINT) -> None:
    """The very first loss in all digits of float32; losses, values and moments after 20 steps within its rounding."""
    of_first = 1e-6 if kind == "inject" else 1e-5  # stage 2 begins with what stage 1 has rounded
    assert losses(root, kind)[0] == pytest.approx(losses(expected, kind)[0], rel=of_first)
    assert losses(root, kind) == pytest.approx(losses(expected, kind), rel=1e-4)
    states = [load_file(stage(folder, kind) / checkpoint) for folder in (expected, root)]
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


@pytest.mark.parametrize(
    "settings",
    [
        "generator.block_tokens=40",
        "generator.latent=2",
        # three codes for four contexts: in the third step, without samples, the ranks draw 2 and 1 different prompts
        "generator.block_tokens=40 generator.latent=2 generator.context_warmup=0.275 recipe.inject.contexts_per_step=4",
    ],
)
def test_blocks_and_codes_do_on_two_ranks_what_they_do_on_one(one_process: Path, tmp_path: Path, settings: str) -> None:
    """With shards of everything, which the second computation of a block gathers again."""
    steps = [*settings.split(), "recipe.inject.steps=4", "recipe.tune.steps=4", "checkpoint_every=4"]
    steps += ["recipe.inject.token_lr_scale=1", "recipe.tune.token_lr_scale=1"]  # as in SEVERAL
    roots = [with_zoo_of(one_process, tmp_path / str(ranks)) for ranks in (1, 2)]
    for root, zero in zip(roots, (["zero=none"], ["zero=stage3", "zero.whole_below=0"]), strict=True):
        process = run(root, roots.index(root) + 1, *steps, *zero)
        assert process.returncode == 0, process.stdout + process.stderr
    for kind in ("inject", "tune"):
        # the table of codes begins at zero, where AdamW makes much of small gradients and so of their rounding
        assert_same(*roots, kind, of_moments=1e-2, checkpoint="checkpoints/step-000004.safetensors")


@pytest.mark.parametrize("zero", ["stage1", "stage2", "stage3"])
def test_nothing_keeps_the_backbone_of_a_stage_that_is_over(one_process: Path, tmp_path: Path, zero: str) -> None:
    root, steps = with_zoo_of(one_process, tmp_path / "runs"), ["recipe.inject.steps=2", "recipe.tune.steps=2"]
    process = run(root, 2, f"zero={zero}", *steps, module="tests.hpc.kept")
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("KEPT 0") == 2


@pytest.fixture(scope="module")
def tasks_of_one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks") / "runs"
    process = run(root, 1, *SEVERAL, module="tests.hpc.several_tasks")
    assert process.returncode == 0, process.stderr
    return root


@pytest.mark.parametrize("zero", ["stage1", "stage2", "stage3", "stage3 zero.whole_below=0"])
def test_several_tasks_in_turn_do_what_they_do_in_one_process(
    tasks_of_one_process: Path, tmp_path: Path, zero: str
) -> None:
    """What belongs to one task rests while the others have their steps."""
    root = with_zoo_of(tasks_of_one_process, tmp_path / "runs")
    process = run(root, 2, *SEVERAL, *f"zero={zero}".split(), module="tests.hpc.several_tasks")
    assert process.returncode == 0, process.stdout + process.stderr
    for kind in ("inject", "tune"):
        assert_same(tasks_of_one_process, root, kind, of_moments=5e-3)  # each task's steps are few


@pytest.mark.parametrize("zero", ["stage2", "stage3"])
def test_a_bfloat16_backbone_and_what_ranks_hold(tmp_path: Path, zero: str) -> None:
    """As on GPUs: what is frozen is bfloat16, what is trained float32; and every rank holds what dry_run=true says."""
    sizes = ["dataset=digits", "target=cnn_small", "backbone=tiny_llama", "device=cpu"]
    process = run_ranks("tests.hpc.footprint", [f"zero={zero}", "dtype=bfloat16", *sizes], 2, Path.cwd())
    assert process.returncode == 0, process.stdout + process.stderr
    ranks = [json.loads(line) for line in re.findall(r"FOOTPRINT (\{.*\})", process.stdout)]
    assert len(ranks) == 2
    for rank in ranks:
        assert rank["dtypes"] == [[False, "torch.bfloat16"], [True, "torch.float32"]]
        assert rank["losses"][-1] < 0.9 * rank["losses"][0]
        for part in ("backbone", "values", "moments"):
            assert rank[part] == pytest.approx(rank["expected"][part], rel=0.05), part


def test_no_rank_but_the_first_holds_the_whole_backbone_while_it_loads(tmp_path: Path) -> None:
    """A Llama of 1.3 GB, whose embedding is as small a part of it as in those of 7–8B; the peak on one of two ranks."""
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    from neurogen.generator.pretrained import byte_tokenizer

    config = LlamaConfig(
        hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=16, vocab_size=10240,
        num_key_value_heads=16,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    tokenizer: PreTrainedTokenizerFast = byte_tokenizer(config)
    tokenizer.save_pretrained(tmp_path / "llama")
    backbone = ["backbone=causal_lm", f"backbone.model={tmp_path}/llama"]
    alone = subprocess.run(
        [sys.executable, "-m", "tests.hpc.loading", "zero=none", *backbone],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    peaks = {}
    for zero, process in (("none", alone), ("stage3", torchrun("tests.hpc.loading", "zero=stage3", *backbone))):
        assert process.returncode == 0, process.stdout + process.stderr
        peaks[zero] = {int(rank): int(mb) for rank, mb in re.findall(r"LOADING rank (\d): (\d+) MB", process.stdout)}
    assert peaks["none"][0] > 1250
    assert peaks["stage3"][1] <= 0.75 * peaks["none"][0], peaks


def test_ranks_draw_a_reset_backbone_alike_and_wait_for_each_other_as_long_as_the_watchdog_lets_them(
    tmp_path: Path,
) -> None:
    """A second process group in one process, as a notebook has it, is a new one for DeepSpeed too."""
    from transformers import LlamaConfig, LlamaModel

    from neurogen.generator.pretrained import byte_tokenizer

    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=300
    )
    LlamaModel(config).save_pretrained(tmp_path / "llama")
    byte_tokenizer(config).save_pretrained(tmp_path / "llama")
    backbone = ["backbone=causal_lm", f"backbone.model={tmp_path}/llama", "backbone.reset_seed=3"]
    shown = []
    for zero, num_ranks in (("none", 1), ("stage3_offload", 1), ("stage3", 2)):
        process = run_ranks("tests.hpc.groups", [f"zero={zero}", *backbone], num_ranks, tmp_path)
        assert process.returncode == 0, process.stdout + process.stderr
        shown += [json.loads(line) for line in re.findall(r"GROUPS (.*)", process.stdout)]
    assert sorted(rank for rank, _, _ in shown) == [0, 0, 0, 0, 0, 1]
    assert len({digest for _, digest, _ in shown}) == 1
    assert [days for _, _, days in shown] == [[], [], *[[7, 7]] * 4]


@pytest.mark.parametrize("modules", ["q_proj,k_proj,v_proj,o_proj", "all-linear"])
def test_a_sharded_vision_backbone(one_process: Path, tmp_path: Path, modules: str) -> None:
    """Modules that only some contexts use, LoRA of the encoder among them, and a processor's pictures."""
    vision = ["backbone=tiny_qwen2_vl", "recipe.inject.steps=6", "checkpoint_every=6", "only=[inject]"]
    vision += [f"backbone.lora.target_modules=[{modules}]", "recipe.inject.token_lr_scale=1"]
    alone = with_zoo_of(one_process, tmp_path / "alone")
    assert run(alone, 1, *vision).returncode == 0
    for zero in ("stage2", "stage3"):
        sharded = with_zoo_of(one_process, tmp_path / zero)
        process = run(sharded, 2, f"zero={zero}", *vision)
        assert process.returncode == 0, process.stdout + process.stderr
        assert_same(alone, sharded, "inject", checkpoint="checkpoints/step-000006.safetensors")


@pytest.mark.parametrize("zero", ["stage2", "stage3"])
def test_a_gradient_that_is_no_number_on_any_rank_ends_all(one_process: Path, tmp_path: Path, zero: str) -> None:
    root = with_zoo_of(one_process, tmp_path / "runs")
    process = run(root, 2, f"zero={zero}", module="tests.hpc.broken_gradient")
    assert process.returncode == 1
    assert "error: inject: the norm of the gradient is inf at step 1; lower recipe.inject.lr" in process.stderr
    assert not list(root.glob("inject/*/DONE"))


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


def test_what_ranks_cannot_do_is_refused_in_one_line(tmp_path: Path) -> None:
    """Every rank ends, also under torchrun."""
    thirds = ["zero=stage2", "recipe.inject.contexts_per_step=3"]
    under_torchrun = torchrun("neurogen.run", *SHARED, f"root={tmp_path}/runs", *thirds)
    for process, message in (
        (under_torchrun, "cannot be shared by 2 ranks; set it to a multiple of 2"),
        (run(tmp_path / "runs", 2, "zero=none"), "zero=none is for one process, and 2 were started"),
    ):
        assert process.returncode == 1
        assert re.search(rf"^error: .*{message}", process.stderr, re.MULTILINE), process.stderr
