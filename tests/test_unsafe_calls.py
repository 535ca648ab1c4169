"""What would run code, or fill the disk, out of a file that others made is called nowhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("neurogen", "hpc", "hydra_plugins", "benchmarks", "slurm", "docs")
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "shelve", "xmlrpc"}
CALLS = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load", "pandas.read_pickle", "pd.read_pickle"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "eval", "exec", "os.system", "os.popen"),
}
METHODS = {"extractall", "unpack_archive", "extract_archive"}
READERS = {"AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor", "AutoProcessor", "AutoModelForCausalLM"}


def unsafe(text: str) -> Iterator[str]:
    """The calls and imports in a module that are not allowed."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        is_unsafe = name in CALLS or name.rpartition(".")[2] in METHODS
        is_unsafe |= given.get("allow_pickle") == "True" or given.get("shell") == "True"
        is_unsafe |= given.get("trust_remote_code", "False") != "False"
        owner, _, method = name.rpartition(".")
        is_reader = method == "from_pretrained" and owner in READERS
        is_unsafe |= is_reader and not ({"trust_remote_code", None} & set(given))
        if is_unsafe:
            yield ast.unparse(node)


def test_no_module_has_an_unsafe_call() -> None:
    paths = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
    assert len(paths) > 150
    assert {str(path): list(unsafe(path.read_text(encoding="utf-8"))) for path in paths} == {
        str(path): [] for path in paths
    }


def test_nothing_is_told_to_listen_on_other_addresses_than_loopback() -> None:
    paths = [
        *REPOSITORY.glob("*.md"),
        REPOSITORY / "Makefile",
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("slurm/*"),
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in paths if path.is_file()}
    assert sum("tensorboard " in text for text in texts.values()) >= 2
    assert not [path for path, text in texts.items() if "0.0.0.0" in text or "--bind_all" in text]


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "import joblib",
        "from dill import load",
        "archive.extractall(folder)",
        "subprocess.run(line, shell=True)",
        "AutoModel.from_pretrained(folder)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
    ],
)
def test_an_unsafe_call_is_seen(line: str) -> None:
    assert list(unsafe(line))
