"""Words of the command line that cannot be read, or would be read as something else: a line that says what to type."""

from __future__ import annotations

import re
import shlex

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from neurogen.arguments import FLAGS, split
from neurogen.choices import groups
from neurogen.errors import UserError
from neurogen.overrides import for_shell, in_quotes, require_readable
from neurogen.run import compose

GROUPS = groups()
TEXTS = [
    *("a(b", "a)b", "a(b)", "a=b", "a'b", 'a"b', "a{b", "a}b", "[a", "a]", "ünï 猫", "it's", "a\\(b'", "a#b", "a;b"),
    *(
        "a&b",
        "a!b",
        "a<b>",
        "`a`",
        "^a",
        " a",
        "a ",
        "\ta",
        "a${b",
        "${a}(",
        "a,b",
        "a, b",
        "a,",
        "1e3",
        "true",
        "1_000",
    ),
    *("foo(3)", "'a'b", 'Weather "radar"', "/data/Müller (2)/a,b=c [x]", "$x (1)", "\\${a}(", "a(\\", "~a", "a: b, c"),
]
SIGNS = "ab()[]{}='\",$ \\!`~ü猫#&;|<>*?:/%-^"


def line_for(word: str, is_sweep: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        require_readable([word], GROUPS, is_sweep)
    return str(caught.value)


def typed_into_a_shell(advice: str) -> str:
    """The value that Hydra reads when the advice is pasted into a shell."""
    (word,) = shlex.split(advice)
    value = OverridesParser.create().parse_override(word).value()
    text = OmegaConf.create({"value": value}).value
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("text", TEXTS)
def test_the_advice_for_a_text_gives_this_text(text: str) -> None:
    for key in ("root", "dataset.path", "dataset.title"):
        advice = re.split(r"; .*? write |quotes: |has it ", line_for(f"{key}={text}"))[-1]
        assert typed_into_a_shell(advice) == text
        require_readable(shlex.split(advice), GROUPS, is_sweep=False)  # it is not refused again


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from(SIGNS), max_size=8).filter(lambda text: text != "???"))  # OmegaConf's missing value
def test_whatever_is_quoted_arrives_as_it_was(text: str) -> None:
    assert typed_into_a_shell(for_shell(f"root={in_quotes(text)}")) == text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("root=a(1),b", "for several values write \"root='a(1)',b\", for a single one with a comma \"root='a(1),b'\""),
        ("root=a,", "root=a, ends in a comma; write root=a without it, or for a text that has it \"root='a,'\""),
        ("zoo.num_networks=2,", "zoo.num_networks=2, ends in a comma; write zoo.num_networks=2 without it"),
        ("dataset=digits,", "dataset=digits, ends in a comma; write dataset=digits without it"),
        ("root=~/runs (1)", "~ is not expanded here; write \"root='{home}/runs (1)'\""),
        ("only=[tune,evaluate", 'cannot be read because of [; a list is written "only=[tune,evaluate]"'),
        (
            "dataset.text.columns=[review text,stars (1-5)]",
            "a list is written \"dataset.text.columns=[review text,'stars (1-5)']\"",
        ),
        ("dataset.text.class_names=[true,false]", "write \"dataset.text.class_names=['true','false']\""),
        ("seed=a(b", "seed=a(b must be a whole number"),
        ("seed=foo(3)", "seed=foo(3) must be a whole number"),
        ("zoo.init=ünï", "zoo.init=ünï is unknown; allowed: shared, independent"),
        ("seed", "seed sets nothing; write KEY=VALUE, without blanks around the ="),
        ("seed =1", "seed =1 has blanks before its =; write seed=1"),
        ("only[0]=tune", "only[0] is no key"),
        ("=1", "=1: nothing is no key"),
        ("~generator", "~generator takes away what an experiment needs"),
        ("dataset=[digits,mnist5k]", "dataset takes one name; for a sweep write -m dataset=digits,mnist5k"),
        (
            "target=null",
            "target=null is unknown; allowed: cnn, cnn_small, lenet, mlp, resnet20, resnet8, rnn, torchvision",
        ),
        ("cluster=5", "cluster=5 is unknown; allowed: a100, here"),
    ],
)
def test_a_sweep_refuses_it_too(words: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert line.format(home="/home/ada") in line_for(words, is_sweep=True)


@pytest.mark.parametrize(
    "word",
    [
        *("seed=0,1", "root='a,b'", "preset=null", "+target.options.depth=3", "~target.options.depth", "root=a$b"),
        *("target={name: x, build: y}", "dataset.unseen=[cat, dog]", "point=a,b", "backbone=${paper_backbone}"),
        *("dataset.title=007", "dataset.title=", "zoo.training.lr=1e-3", "dataset.path=/data/a b"),
    ],
)
def test_what_hydra_reads_as_it_was_meant_is_left_alone(word: str) -> None:
    require_readable([word], GROUPS, is_sweep=True)


def test_in_python_the_advice_is_a_string_of_python() -> None:
    with pytest.raises(UserError, match=r"""put the value in quotes: "root='a\(b'"$"""):
        compose(["root=a(b"])


def test_flags_stand_anywhere_and_are_those_of_hydra() -> None:
    actions = [action for action in get_args_parser()._actions if action.option_strings]
    assert {name for action in actions for name in action.option_strings} == set(FLAGS)
    for action in actions:
        for name in action.option_strings:
            assert (action.nargs != 0) == bool(FLAGS[name])
            assert action.choices is None or tuple(action.choices) == FLAGS[name]
    assert split(["a=1", "-cn", "x", "b=2", "--info", "c=3", "--cfg=job"]) == (
        ["-cn", "x", "--info", "--cfg=job"],
        ["a=1", "b=2", "c=3"],
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--seed 1", "--seed is no flag; settings are written without dashes, KEY=VALUE: seed=VALUE"),
        ("-seed=1", "-seed is no flag; settings are written without dashes"),
        ("--multi-run", "--multi-run is no flag; did you mean --multirun?"),
        ("--cfg foo", "--cfg is given nothing; allowed: job, hydra, all"),
        ("--cfg=foo", "--cfg is given foo; allowed: job, hydra, all"),
        ("--config-dir", "--config-dir is given nothing; allowed: VALUE"),
        ("-m=3", "-m is given 3; allowed: nothing"),
    ],
)
def test_flags_that_hydra_does_not_have_are_refused(words: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        split(words.split())
    assert line in str(caught.value)
