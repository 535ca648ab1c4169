"""Sharing: a generator's folder for others, its model cards, and a hub on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

import neurogen
from neurogen import LoadedGenerator
from neurogen.api.hub import FILES, figures_of
from neurogen.study.pipeline import Evaluate
from tests.outside import TOKEN, Web, serving

PLACEHOLDERS = ("More Information Needed", "<!--", "[optional]", "Model ID", "YOUR", "TODO")


@pytest.fixture
def hub() -> Iterator[Web]:
    with serving() as server:
        yield server


def python(hub: Web, home: Path, code: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, which knows this hub and no other."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_TOKEN": token}
    return subprocess.run(
        [sys.executable, "-c", f"import neurogen, torch\n{code}"],
        env=os.environ | settings | {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def require_a_real_card(text: str, images: Evaluate) -> None:
    assert not [word for word in PLACEHOLDERS if word in text]
    assert images.root not in text
    assert str(Path.home()) not in text
    assert "/tmp" not in text
    assert "](" in text or "LoRA" in text


def test_a_generator_goes_to_the_hub_and_comes_back(
    images: Evaluate, generator: LoadedGenerator, hub: Web, tmp_path: Path
) -> None:
    code = f"""
before = neurogen.load({str(generator.folder)!r})
print(before.push_to_hub("lab/digits-cnn"))
after = neurogen.load("lab/digits-cnn")
first, other = (each.generate(seed=5).network.state_dict() for each in (before, after))
assert all(torch.equal(first[name], other[name]) for name in first)
print(after.folder)
after.push_to_hub("lab/copy", private=True)
"""
    done = python(hub, tmp_path / "home", code)
    assert done.returncode == 0, done.stderr
    address, folder = done.stdout.split()
    assert address == f"{hub.address}/lab/digits-cnn"
    assert Path(folder).is_relative_to(tmp_path / "home")
    files = hub.hub["lab/digits-cnn"]
    assert set(files) == set(FILES)
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "neurogen"
    (result,) = card.data.eval_results
    generated = 100 * sum(images.metrics()["populations"]["generated"]["accuracy"]) / 2
    assert result.metric_value == pytest.approx(generated)
    assert re.search(rf"\| CNN +\| handwritten digits 8x8 +\| {generated:.2f} ± [\d.]+ \(n = 2\)", card.text)
    assert 'neurogen.load("lab/digits-cnn")' in card.text
    for name in ("README.md", "adapter/README.md"):
        require_a_real_card(files[name].decode(), images)
    assert set(hub.hub["lab/copy"]) == set(FILES)
    assert hub.private == {"lab/copy"}


def test_what_cannot_be_shared_is_said_in_one_line(generator: LoadedGenerator, hub: Web, tmp_path: Path) -> None:
    generator.save(tmp_path / "shared")
    text = (tmp_path / "shared" / "generator.json").read_text().replace('"build": "cnn"', '"build": "os.system"')
    (tmp_path / "shared" / "generator.json").write_text(text)
    hub.hub["lab/x"] = {name: (tmp_path / "shared" / name).read_bytes() for name in FILES}
    code = f"""
generator = neurogen.load({str(generator.folder)!r})
for call in (lambda: generator.push_to_hub("lab/x"), lambda: generator.push_to_hub("nothing"),
             lambda: neurogen.load("lab/nothing"), lambda: neurogen.load("lab/x")):
    try:
        call()
    except neurogen.UserError as error:
        print(error)
"""
    done = python(hub, tmp_path / "home", code, token="hf_of_somebody_else")
    assert done.returncode == 0, done.stderr
    refused, name, missing, code = done.stdout.splitlines()
    assert refused.startswith("the Hub does not take lab/x (Client error '401")
    assert "hf auth login" in refused
    assert name == "nothing is no name on the Hub; give OWNER/NAME"
    assert missing.startswith("lab/nothing is no folder here, and it cannot be had from the Hub (")
    assert "404" in missing
    assert "is a function of its author, os.system; if you have it and trust it, load the folder" in code


def test_a_hub_that_does_not_answer_is_named(hub: Web, tmp_path: Path) -> None:
    hub.shutdown()
    hub.server_close()
    done = python(hub, tmp_path / "home", 'try: neurogen.load("lab/x")\nexcept neurogen.UserError as e: print(e)')
    assert done.returncode == 0, done.stderr
    assert "lab/x is no folder here, and it cannot be had from the Hub" in done.stdout


def test_a_saved_copy_is_whole_and_names_no_place(images: Evaluate, generator: LoadedGenerator, tmp_path: Path) -> None:
    generator.save(tmp_path / "copy")
    assert {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.*")} == set(FILES)
    first, other = generator.generate(seed=2), neurogen.load(tmp_path / "copy").generate(seed=2)
    assert torch.equal(first.network[0].weight, other.network[0].weight)
    assert figures_of(tmp_path / "copy") == {}
    text = "".join((tmp_path / "copy" / name).read_text() for name in FILES if "safetensors" not in name)
    assert images.root not in text


def test_the_folders_of_a_run_have_real_cards(images: Evaluate, texts: Evaluate) -> None:
    """Without figures: a card that the training writes cannot know them."""
    for step in (images.tune, images.tune.inject, texts.tune):
        assert step is not None
        for name in ("README.md", "adapter/README.md"):
            text = (step.folder / name).read_text()
            require_a_real_card(text, images)
            assert "accuracy" not in text
            assert ModelCard(text).data.base_model is None  # random weights
    text = (texts.tune.folder / "README.md").read_text()
    assert re.search(r"\| MLP +\| [\d,]+ +\| Rotten Tomatoes \| rotten, fresh \| texts of up to 24 tokens \|", text)
    assert "generator.generate(texts, labels)" in text


def test_a_backbone_of_a_folder_needs_its_name_on_the_hub(generator: LoadedGenerator, tmp_path: Path) -> None:
    copy = tmp_path / "local"
    generator.save(copy)
    about = json.loads((copy / "generator.json").read_text())
    about["backbone"] |= {"model": str(tmp_path), "random_seed": None}
    about["tasks"]["digits-cnn_small"]["dataset"]["path"] = str(tmp_path / "data")
    (copy / "generator.json").write_text(json.dumps(about))
    local = LoadedGenerator(generator.module, copy)
    with pytest.raises(neurogen.UserError, match=r"which nobody else has; give backbone=OWNER/NAME"):
        local.save(tmp_path / "shared")
    local.save(tmp_path / "shared", backbone="lab/llama")
    text = "".join((tmp_path / "shared" / name).read_text() for name in FILES if "safetensors" not in name)
    assert str(tmp_path) not in text
    assert ModelCard((tmp_path / "shared" / "README.md").read_text()).data.base_model == "lab/llama"
    assert 'AutoModel.from_pretrained("lab/llama")' in (tmp_path / "shared" / "adapter" / "README.md").read_text()
    adapter = json.loads((tmp_path / "shared" / "adapter" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == "lab/llama"
    shutil.rmtree(copy / "adapter")
    with pytest.raises(neurogen.UserError, match="adapter"):
        local.save(tmp_path / "again", backbone="lab/llama")
