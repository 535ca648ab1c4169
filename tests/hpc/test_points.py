"""The composed configs of a sweep's points."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hpc.jobs.points import compose
from neurogen.choices import conf_folder


def test_points_are_composed_as_hydra_composes_them() -> None:
    """Choices of files once, values set on copies: the same configs as from composing every point by itself."""
    points = [
        ["dataset=digits", "seed=1", "recipe.tune.lr=1e-3"],
        ["dataset=digits", "seed=2", "recipe.tune.lr=2e-3"],
        ["dataset=sst2", "target=rnn", "fit=mlp", "name=a-b", "only=[tune,evaluate]"],
        ["dataset=sst2", "dataset.limit=7", "++dataset.text.max_tokens=9", "cluster=a100", "+cluster.environment.A=b"],
        *(
            [f"zoo.init={init}", f"seed={seed}", f"name={name}", f"only={only}"]
            for init in ("shared", "independent")
            for seed, name, only in ((1, "a", "null"), (2, "'${seed}'", "[tune,evaluate]"), (3, "'\\${b}'", "[tune]"))
        ),
        *(["dataset=sst2", f"dataset.text.max_tokens={count}", "dataset.text=null"] for count in (9, 10)),
        *(["name='${seed}'", f"seed={seed}", "dataset.limit=5", f"zoo.training.lr={seed}e-3"] for seed in (1, 2, 3)),
        [
            "backbone=qwen2_vl_7b",
            "cluster=a100",
            "~cluster.steps.tune",
            "backbone.lora={rank: 2}",
            "recipe=paper",
            "root='a b'",
        ],
        [
            "seed=3",
            "recipe=paper",
            "cluster.setup=['module load x','y']",
            "target.options={}",
            "dataset.title='${name} of'",
        ],
    ]
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        whole = loader.load_configuration("config", [], RunMode.MULTIRUN)
        configs = compose(loader, whole, points)
        for point, config in zip(points, configs, strict=True):
            alone = loader.load_sweep_config(whole, point)
            expected = OmegaConf.masked_copy(alone, [key for key in alone if key != "hydra"])
            resolved = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
            assert resolved == OmegaConf.to_container(expected, resolve=True), point
        for wrong in ("recipe.tune.nothing=1", "dataset=nothing", "fit@nowhere=mlp"):
            with pytest.raises(HydraException):
                compose(loader, whole, [["seed=1"], ["seed=2", wrong]])
