"""A generator for others: a folder with all that is needed to load it, on the Hugging Face Hub or anywhere else.

in:  the folder of a finished tune or inject step, among the other steps of its run
out: generator.json, generator.safetensors, adapter/ and the model cards, with what the run measured of it

Nothing in it names a folder of this machine: where own data was read from is left out, and the backbone must be one
that others can have.
"""

from __future__ import annotations

import re
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from neurogen import store
from neurogen.config import DatasetConfig
from neurogen.errors import UserError, advising, one_line
from neurogen.generator.card import Figures, Spread, adapter_card, generator_card, hub_name
from neurogen.generator.folder import DESCRIPTION_FILE, TENSORS_FILE, Description, read_description
from neurogen.study.results import EvaluationResult, Population, from_json

HUB_TEXT = "hub_text"  # dataset.load of texts on the Hub
ADAPTER = "adapter/adapter_config.json"
TENSORS = (TENSORS_FILE, "adapter/adapter_model.safetensors")
FILES = (DESCRIPTION_FILE, "README.md", ADAPTER, "adapter/README.md", *TENSORS)


def is_hub_name(source: str) -> bool:
    """Whether it can be OWNER/NAME of a model on the Hub."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None


def download(repo_id: str, revision: str | None = None) -> Path:
    """The folder of a generator on the Hub, in the cache of huggingface_hub.

    Code of the Hub is never run, and functions that only the author has are not looked for.
    Raises UserError where it cannot be had, or its target is not one of the built-in ones.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"{repo_id} is no folder here, and it cannot be had from the Hub ({one_line(error)}); check OWNER/NAME, "
            "and log in with `hf auth login` (or set HF_TOKEN) where the model is private"
        ) from error
    for name, task in read_description(folder).tasks.items():
        if "." in task.target.build:
            raise UserError(
                f"the target of {name} in {repo_id} is a function of its author, {task.target.build}; if you have it "
                f"and trust it, load the folder: {folder}"
            )
    return folder


def upload(folder: Path, repo_id: str, *, backbone: str | None, private: bool, token: str | None) -> str:
    """Copy a generator to the Hub, into a repository that is created where it is not there; returns its address.

    Raises UserError as `copy_for_others` does, and where the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not is_hub_name(repo_id):
        raise UserError(f"{repo_id} is no name on the Hub; give OWNER/NAME")
    with advising(store.Unwritable, "free some space or set TMPDIR=FOLDER"), TemporaryDirectory() as name:
        copy_for_others(folder, Path(name), backbone=backbone, source=repo_id)
        api = HfApi(token=token)
        try:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=name, commit_message="Generator")
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise UserError(
                f"the Hub does not take {repo_id} ({one_line(error)}); log in with `hf auth login` (or set HF_TOKEN) "
                "as somebody who may write there"
            ) from error
    return str(address)


def copy_for_others(folder: Path, target: Path, *, backbone: str | None, source: str) -> None:
    """Write the generator and its cards into `target`; `source` is what its card tells `neurogen.load` to take.

    `backbone` is OWNER/NAME of the language model on the Hub, where the generator has it from a folder.
    Raises UserError where that is needed and not given, and where files are missing or cannot be written.
    """
    description = read_description(folder)
    if backbone is not None:
        description = replace(description, backbone=replace(description.backbone, model=backbone))
    elif hub_name(description.backbone) is None and description.backbone.random_seed is None:
        raise UserError(
            f"the backbone was read from the folder {description.backbone.model}, which nobody else has; give "
            "backbone=OWNER/NAME of the same model on the Hub"
        )
    description = without_paths(description)
    with store.writing(target):
        (target / "adapter").mkdir(parents=True, exist_ok=True)
        for name in TENSORS:
            shutil.copyfile(folder / name, target / name)
    adapter = store.read_json(folder / ADAPTER) | {"base_model_name_or_path": description.backbone.model}
    store.write_json(target / ADAPTER, adapter)
    description.write(target)
    store.write_text(target / "README.md", generator_card(description, figures_of(folder), source))
    store.write_text(target / "adapter" / "README.md", adapter_card(description))


def without_paths(description: Description) -> Description:
    """The description without the places of own data; OWNER/NAME of data on the Hub stays."""

    def is_place(dataset: DatasetConfig) -> bool:
        path = dataset.path or ""
        return dataset.load != HUB_TEXT or not is_hub_name(path) or Path(path).exists()

    tasks = {
        name: replace(task, dataset=replace(task.dataset, path=None)) if is_place(task.dataset) else task
        for name, task in description.tasks.items()
    }
    return replace(description, tasks=tasks)


def figures_of(folder: Path) -> dict[str, Figures]:
    """What the run measured of a generator, by task; nothing where its folder stands alone, or is not evaluated yet.

    The evaluations of a run are beside its generators, in root/evaluate, and each names the step that it evaluated.
    """
    folder = folder.absolute()
    step = f"{folder.parent.name}-{folder.name.rpartition('-')[2]}"
    figures = {}
    for evaluation in sorted(folder.parent.parent.glob("evaluate/*")):
        if not store.is_done(evaluation):
            continue
        config = store.read_json(evaluation / "config.json")
        if config["tune"] == step:
            task = config["zoo"]["task"]
            metrics = from_json(EvaluationResult, store.read_json(evaluation / "metrics.json"), evaluation)
            generated, classical = (_spread(metrics, name) for name in (Population.GENERATED, Population.CLASSICAL))
            name = f"{task['dataset']['name']}-{task['target']['name']}"
            figures[name] = Figures(generated, classical, metrics.num_test)
    return figures


def _spread(result: EvaluationResult, population: Population) -> Spread:
    accuracies = [100 * value for value in result.populations[population].accuracy]
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return Spread(statistics.fmean(accuracies), std, len(accuracies))
