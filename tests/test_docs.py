"""README and docs cannot rot: every link resolves, every command composes, every example is Python.

Commands with an ellipsis are patterns, and names of commands without words behind them are names; both are left out.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import open_dict

from hpc.jobs.cluster import cluster_from
from hpc.jobs.points import compose
from neurogen import aggregate, generate, status
from neurogen.arguments import for_hydra
from neurogen.choices import conf_folder
from neurogen.data.preparation import ImageShape
from neurogen.experiment import experiment_from
from neurogen.targets.networks import build_network

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LONGEST_README = 200

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
COMMAND = re.compile(r"(?:-m neurogen\.|(?:^|/)neurogen )(run|generate|status|aggregate)\b(.*)")
EXPLANATION = re.compile(r" {3,}(?=[^\s#-])")  # behind a command, where there is no #
PARSERS: dict[str, Callable[[str], object]] = {"python": ast.parse, "yaml": yaml.safe_load}
SIDES = {"digits": 8, "mnist5k": 28}  # of the images of datasets that are installed
PLACEHOLDERS = {
    "cluster=mysite": "cluster=a100",
    "dataset=pets": "dataset=mnist5k",
}  # files of the reader


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors_of(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    text = FENCED.sub("", text_of(page))
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_of(page: Path) -> list[tuple[str, str]]:
    """(entry point, the rest of its command line) of every command on the page."""
    text = text_of(page)
    blocks = [body for language, body in FENCED.findall(text) if language in ("", "bash", "sh")]
    blocks += INDENTED.findall(FENCED.sub("", text))
    lines = [line.strip() for block in blocks for line in re.sub(r" *\\\n *", " ", block).splitlines()]
    lines += INLINE.findall(FENCED.sub("", text))
    commands = [match.groups() for line in lines if (match := COMMAND.search(line))]
    return [
        (module, rest) for module, rest in commands if "…" not in rest and (rest.strip() or module in ("run", "status"))
    ]


def words_of(rest: str) -> tuple[str, ...]:
    words = shlex.split(EXPLANATION.split(rest)[0], comments=True)
    return tuple(PLACEHOLDERS.get(word, word) for word in words)


def all_of(*modules: str) -> list[Any]:
    """The words of every command on any page that begins with one of these entry points."""
    commands = [(module, words_of(rest)) for page in PAGES for module, rest in commands_of(page) if module in modules]
    return [pytest.param(module, words, id=shlex.join([module, *words])) for module, words in dict.fromkeys(commands)]


def composed(words: Sequence[str]) -> list[Any]:
    """The config of the experiment that `python -m neurogen.run WORDS` would run; of a sweep the first and the last,
    since tests/study composes all points of all studies."""
    overrides = [word for word in for_hydra(["neurogen.run", *words])[1:] if "=" in word]
    is_sweep = "-m" in words
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        mode = RunMode.MULTIRUN if is_sweep else RunMode.RUN
        config = hydra.compose_config("config", overrides, run_mode=mode, with_log_configuration=False)
        if not is_sweep:
            with open_dict(config):
                del config["hydra"]
            return [config]
        loader = hydra.config_loader
        HydraConfig.instance().set_config(config)
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        sweeper: Any = Plugins.instance().instantiate_sweeper(
            config=config, hydra_context=context, task_function=lambda _: None
        )
        swept = [*config.hydra.overrides.task, *sweeper._parse_config()]
        (points,) = sweeper.split_arguments(OverridesParser.create(loader).parse_overrides(swept), None)
        return list(compose(loader, config, [points[0], points[-1]]))


EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@EVERY_PAGE
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
    links = [link for link in LINK.findall(FENCED.sub("", text_of(page))) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors_of(target), f"{page.name} links to {link}"


def test_every_page_of_docs_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        names = {link.partition("#")[0] for link in LINK.findall(text_of(page)) if "://" not in link}
        linked = {(page.parent / name).resolve() for name in names if name.endswith(".md")}
        waiting += linked - reached
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.name)
def test_a_page_opens_with_whom_it_is_for(page: Path) -> None:
    title, opening = text_of(page).split("\n\n")[:2]
    assert title.startswith("# ")
    assert re.search(r"\bfor (readers|users|people|everybody)\b", opening, flags=re.IGNORECASE), opening


def test_the_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= LONGEST_README


@EVERY_PAGE
def test_examples_on_a_page_parse(page: Path) -> None:
    for language, body in FENCED.findall(text_of(page)):
        if language in PARSERS:
            assert PARSERS[language](body) is not None


@pytest.mark.parametrize(("_", "words"), all_of("run"))
def test_an_experiment_on_a_page_composes(_: str, words: tuple[str, ...]) -> None:
    for config in composed(words):
        experiment = experiment_from(config)
        if experiment.dataset.load in SIDES:
            side = experiment.dataset.resize or SIDES[experiment.dataset.load]
            build_network(experiment.target, ImageShape(1, side, side, 10))


@pytest.mark.parametrize(("_", "words"), all_of("generate"))
def test_a_generation_on_a_page_is_understood(_: str, words: tuple[str, ...]) -> None:
    generate.parse(words)


@pytest.mark.parametrize(("module", "words"), all_of("status", "aggregate"))
def test_a_command_about_a_sweep_is_understood(
    module: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"neurogen.{module}", *words])
    with pytest.raises(SystemExit) as stopped:  # there is no sweep here
        {"status": status, "aggregate": aggregate}[module].main()
    assert stopped.value.code not in (None, 0, 2)  # argparse's own exit status is 2


def words_about_sites() -> list[str]:
    """Every cluster.KEY=VALUE of a page or of a file of conf/cluster, as a shell hands it on."""
    texts = [text_of(page) for page in PAGES]
    spans = [span for text in texts for span in INLINE.findall(text) + INDENTED.findall(text)]
    spans += [path.read_text(encoding="utf-8").replace("#", "") for path in (ROOT / "conf/cluster").glob("*.yaml")]
    lines = [line for span in spans for line in span.splitlines() if re.search(r"cluster\.[\w.{},]+=", line)]
    words = {word for line in lines for word in shlex.split(line) if re.match(r"\+?cluster\.[^=]+=", word)}
    return sorted(word for word in words if "KIND" not in word and "…" not in word)


@pytest.mark.parametrize("word", words_about_sites())
def test_a_setting_of_a_site_on_a_page_composes(word: str) -> None:
    (config,) = composed(["cluster=a100", word])
    cluster_from(experiment_from(config).cluster)
