"""Repositories of the Hub: what is fetched of them, and that it is read without a network."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from neurogen.config import BackboneConfig, DatasetConfig
from neurogen.data.hub_dataset import part_of
from neurogen.data.hub_dataset import repository_of as dataset_repository
from neurogen.data.raw import load_raw
from neurogen.downloads.fetch import fetch, wait_for
from neurogen.downloads.hub import HubSource, Part
from neurogen.downloads.models import repository_of, weights, whole_model
from neurogen.downloads.repository import hub_cache
from neurogen.errors import UserError
from neurogen.generator.pretrained import load_pretrained
from neurogen.generator.usable import require_usable
from tests.conftest import TINY_TEXT, Composed
from tests.outside import TOKEN, Web, language_model, text_dataset, use_here

READ = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"}


@pytest.fixture(autouse=True)
def _here(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.hub |= {"lab/tiny": dict(language_model()), "datasets/lab/reviews": dict(text_dataset())}
    use_here(web, tmp_path / "outside", monkeypatch)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def backbone(experiment: Composed) -> BackboneConfig:
    return experiment("backbone=causal_lm", "backbone.model=lab/tiny").backbone


@pytest.fixture
def reviews(experiment: Composed) -> DatasetConfig:
    return experiment(*TINY_TEXT, "dataset=sst2", "dataset.path=lab/reviews", "dataset.limit=null").dataset


def model_of(backbone: BackboneConfig) -> Part:
    repository = repository_of(backbone)
    assert repository is not None
    return whole_model(backbone, repository)


def data_of(reviews: DatasetConfig) -> Part:
    repository = dataset_repository(reviews)
    assert repository is not None
    return part_of(reviews, repository)


def test_a_model_is_fetched_as_it_is_read_and_never_asked_for_again(
    web: Web, backbone: BackboneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = model_of(backbone)
    fetch([HubSource(part)])
    assert {path.rpartition("/")[2]: count for path, count in web.downloads().items()} == dict.fromkeys(READ, 1)
    before = web.requests.copy()
    fetch([HubSource(part)])
    assert part.repository.revision == web.commit_of("lab/tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    require_usable(backbone)
    model = load_pretrained(backbone, torch.float32).model
    assert model.config.hidden_size == 128
    assert web.requests == before


def test_a_revision_that_is_here_is_kept(web: Web, backbone: BackboneConfig) -> None:
    part = model_of(backbone)
    first = HubSource(part).folder()
    web.hub["lab/tiny"]["config.json"] += b"\n"
    assert HubSource(part).folder() == first
    (first / "model.safetensors").unlink()  # the server has forgotten the old revision, as after a rewritten history
    assert HubSource(part).folder().name == web.commit_of("lab/tiny") != first.name


def test_weights_are_safetensors_and_nothing_else() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    bins = ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"]
    assert weights([*bins, *shards, "model.safetensors.index.json", "model.fp16.safetensors"]) == shards
    assert weights([*bins, *shards, "model.safetensors", "x/model.safetensors"]) == ["model.safetensors"]
    for pickled in (bins, ["pytorch_model.bin"]):
        with pytest.raises(UserError, match=r"it has its weights only as pytorch_model\*\.bin, which may run code"):
            weights(pickled)
    with pytest.raises(UserError, match="no weights"):
        weights(shards)


def test_a_dataset_is_fetched_as_it_is_read(
    web: Web, reviews: DatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetch([HubSource(data_of(reviews))])
    names = {path.split("/", 6)[-1] for path in web.downloads()}
    assert names == {name for name in text_dataset() if not name.startswith("other/")}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = web.requests.copy()
    raw = load_raw(reviews)
    assert (len(raw.train), len(raw.test), raw.class_names) == (270, 60, ("negative", "positive"))
    assert web.requests == before


@pytest.mark.parametrize("is_offline", [True, False])
def test_without_the_note_what_is_in_the_cache_is_read(
    web: Web,
    reviews: DatasetConfig,
    backbone: BackboneConfig,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_offline: bool,
) -> None:
    """Another program may have brought it, or another account whose notes are elsewhere."""
    sources = [HubSource(data_of(reviews)), HubSource(model_of(backbone))]
    fetch(sources)
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_offline)
    web.hub.clear()
    fetch(sources)
    wait_for(sources)  # as ranks do while the first one fetches
    require_usable(backbone)
    assert load_pretrained(backbone, torch.float32).tokenizer.chat_template
    assert len(load_raw(reviews).test) == 60


def test_a_note_that_cannot_be_kept_names_the_setting_of_its_cache(
    web: Web, reviews: DatasetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot write .*; free some space or set NEUROGEN_CACHE=FOLDER$"):
        fetch([HubSource(data_of(reviews))])


def test_readers_that_begin_together_download_each_file_once(web: Web, backbone: BackboneConfig) -> None:
    web.slow_s = 0.05
    part = model_of(backbone)
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: HubSource(part).folder(), range(8)))
    assert len(folders) == 1
    assert set(web.downloads().values()) == {1}


def test_half_a_file_of_a_killed_fetch_is_gone_on_with(web: Web, backbone: BackboneConfig) -> None:
    part, content = model_of(backbone), language_model()["model.safetensors"]
    fetch([HubSource(part)])
    weights = HubSource(part).folder() / "model.safetensors"
    blob = weights.resolve()
    weights.unlink()
    blob.rename(blob.with_name(f"{blob.name}.part")).write_bytes(content[:100_000])
    assert part.missing().num_bytes == len(content) - 100_000
    web.sent.clear()
    fetch([HubSource(part)])
    assert weights.read_bytes() == content
    assert sum(web.sent[path] for path in web.sent if path.endswith("model.safetensors")) == len(content) - 100_000


def test_another_content_than_the_hub_says_is_refused(web: Web, backbone: BackboneConfig) -> None:
    web.garbage |= {f"/lab/tiny/resolve/{web.commit_of('lab/tiny')}/model.safetensors"}
    web.sizes = {path: len(language_model()["model.safetensors"]) for path in web.garbage}
    part = model_of(backbone)
    with pytest.raises(UserError, match=r"lab/tiny is neither in the cache .* nor to be had from the hub \("):
        HubSource(part).folder()
    assert not list(part.repository.folder.glob("snapshots/*/model.safetensors"))


@pytest.mark.parametrize("name", ["../../../outside", "/outside", "data/../../outside", "a\\..\\outside"])
@pytest.mark.parametrize("reader", ["backbone", "reviews"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    web: Web, backbone: BackboneConfig, reviews: DatasetConfig, tmp_path: Path, reader: str, name: str
) -> None:
    web.hub["lab/tiny"][name] = web.hub["datasets/lab/reviews"][name] = b"not yours"
    part = model_of(backbone) if reader == "backbone" else data_of(reviews)
    with pytest.raises(UserError, match="on the hub, which lies outside of its folder"):
        HubSource(part).folder()
    assert not list(tmp_path.rglob("*outside*.json"))
    assert not web.downloads()


@pytest.mark.parametrize("digest", ["../../../outside", "/outside", ""])
def test_a_commit_that_is_a_path_is_refused(web: Web, backbone: BackboneConfig, digest: str) -> None:
    web.commits["lab/tiny"] = digest
    with pytest.raises(UserError, match="on the hub for the digest of a file or commit"):
        HubSource(model_of(backbone)).folder()


def test_a_gated_model_needs_a_token(web: Web, backbone: BackboneConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are listed for everybody, as on the real Hub."""
    web.gated.add("lab/tiny")
    with pytest.raises(UserError, match=r"lab/tiny is gated: ask for access at .*`hf auth login` \(or set HF_TOKEN\)"):
        require_usable(backbone)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    require_usable(backbone)


def test_offline_the_command_is_said_that_brings_it(
    backbone: BackboneConfig, reviews: DatasetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"run `neurogen fetch backbone=causal_lm backbone.model=lab/tiny` where"):
        fetch([HubSource(model_of(backbone))])
    expected = (
        r"run `neurogen fetch dataset=sst2 dataset.path=lab/reviews backbone=tiny_llama` where there is a network"
    )
    with pytest.raises(UserError, match=expected):
        fetch([HubSource(data_of(reviews))])


@pytest.mark.parametrize("path", ["lab/nothing", "lab/no/name", "no such file.csv"])
def test_a_dataset_that_the_hub_has_not_is_named(web: Web, experiment: Composed, path: str) -> None:
    config = experiment(*TINY_TEXT, "dataset=sst2", f"dataset.path='{path}'").dataset
    with pytest.raises(UserError, match=rf"{path} is (not on the hub|no folder here)"):
        fetch([HubSource(data_of(config))])


def test_a_cache_that_can_only_be_read_is_read(
    web: Web, backbone: BackboneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that all of a site share, which another program has filled."""
    fetch([HubSource(model_of(backbone))])
    shared = hub_cache()
    shutil.rmtree(shared / ".locks")
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path / "mine"))  # no note of what is there
    before = web.requests.copy()
    if subprocess.run(["mount", "--bind", "-o", "ro", shared, shared], check=False).returncode:
        pytest.skip("only root can mount a file system")
    try:
        fetch([HubSource(model_of(backbone))])
        assert load_pretrained(backbone, torch.float32).model.config.hidden_size == 128
    finally:
        subprocess.run(["umount", "--lazy", shared], check=True)
    assert web.requests == before
