"""What is a secret, and that no config has one. That files hold none is seen after real sweeps (test_local.py)."""

from __future__ import annotations

import pytest

from neurogen.secrets import is_secret
from tests.conftest import TINY, Program, error_line

PLANTED = "planted'in\"the-environment"


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "DB_PASSWORD", "my_secret"],
)
def test_secrets_are_known_by_their_names(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "HF_HOME", "MAX_TOKENS", "PATH", "KEYBOARD"]
)
def test_other_variables_are_none(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dataset.title=${oc.env:MY_API_KEY}", "the config has the value of the variable MY_API_KEY in it, a secret"),
        ("hydra.job.env_set.A=planted-token", "the config has the value of the variable HF_TOKEN in it, a secret"),
        (f"cluster.setup=['export A=hf_{'Ab1' * 12}']", r"the config has a token of the Hub in it (hf_…)"),
        ("+cluster.environment.HF_TOKEN=abc", "cluster.environment.HF_TOKEN is a secret"),
    ],
)
def test_a_config_with_a_secret_is_refused(program: Program, word: str, message: str) -> None:
    line = error_line(program("run", *TINY, word, HF_TOKEN="planted-token", MY_API_KEY=PLANTED))
    assert line.startswith(f"error: {message}; what is configured is written into files: leave it out")
    assert PLANTED not in line
