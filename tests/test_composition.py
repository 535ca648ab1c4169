"""Wrong words of the command line: one line that says what was given, what is allowed, what to do."""

from __future__ import annotations

import shlex

import pytest

from neurogen.config import Experiment
from neurogen.config.schema import unknown_key
from neurogen.errors import UserError
from neurogen.run import compose

INTERNAL = (
    "Config",
    "Node",
    "omegaconf",
    "hydra.cc",
    "Union",
    "Optional",
    "override",
    "Integer",
    "KeyError",
    "NoneType",
)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        # several values, lists given as scalars and the reverse
        ("seed=1,2", "seed=1,2 has several values; a sweep takes them: add -m"),
        ("dataset=digits,mnist5k", "dataset=digits,mnist5k has several values; a sweep takes them: add -m"),
        ("only=reference,tune", "only=reference,tune has several values; for a list write 'only=[reference,tune]'"),
        ("only=reference", "only=reference is no list; write only=[reference]"),
        ("only={a:1}", "only={a:1} must be a list of embed, reference, classical, inject, tune, evaluate, sweeps"),
        ("only=[]", "only=[] runs nothing; name steps (embed, reference"),
        ("dataset.unseen=cat", "dataset.unseen=cat is no list; write dataset.unseen=[cat]"),
        ("held_out=digits-lenet", "held_out=digits-lenet is no list; write held_out=[digits-lenet]"),
        ("dataset=sst2 dataset.text.columns=a", "dataset.text.columns=a is no list; write dataset.text.columns=[a]"),
        ("dataset=sst2 dataset.text.columns={a:b}", "dataset.text.columns={a:b} must be a list of texts, in brackets"),
        ("backbone.lora.target_modules=q", "backbone.lora.target_modules=q is no list; write"),
        ("seed=[1]", "seed=[1] must be a whole number"),
        ("dataset.title=[a,b]", "dataset.title=[a,b] must be a text"),
        ("dataset=[digits,mnist5k]", "dataset takes one name; for a sweep write -m dataset=digits,mnist5k"),
        # types
        ("seed=1.5", "seed=1.5 must be a whole number"),
        ("seed=", "seed= must be a whole number"),
        ("seed=null", "seed=null must be a whole number"),
        ("dataset.limit=many", "dataset.limit=many must be a whole number, or null for none"),
        ("zoo.training.lr=1/2", "zoo.training.lr=1/2 must be a number"),
        ("zoo.training.lr=inf", "zoo.training.lr=inf must be above 0"),
        ("dry_run=maybe", "dry_run=maybe must be true or false"),
        ("root=null", "root=null must be a text"),
        ("root=", "root= is empty; give a name, or . for the folder you are in"),
        ("root='~/runs'", "root=~/runs: ~ is not expanded here; give the whole path"),
        ("dataset=mnist_fashion dataset.parts.0.path='~/x'", "dataset.parts.0.path=~/x: ~ is not expanded here"),
        (
            "dataset=mnist_fashion dataset.path=here",
            "joins mnist, fashion_mnist; give the place of each that is elsewhere: dataset.parts.0.path=FOLDER",
        ),
        ("dataset=image_folder dataset.path=", "dataset.path= is empty"),
        ("dataset=image_folder", "config dataset.path is missing; set dataset.path=VALUE"),
        ("backbone=causal_lm", "config backbone.model is missing; set backbone.model=VALUE"),
        ("dataset.relabel=some", "dataset.relabel=some is unknown; allowed: random"),
        ("dataset=reuters dataset.topics=r10", "dataset.topics=r10 is unknown; allowed: r8, r52"),
        ("dataset=newsgroups dataset.topics=r8", "dataset.topics=r8 chooses among the documents of dataset=reuters"),
        ("recipe.tune.keep=bset", "recipe.tune.keep=bset is unknown; did you mean best? allowed: last, best"),
        ("only=[refrence]", "only[0]=refrence is unknown; did you mean reference? allowed: embed"),
        ("zoo=5", "zoo=5: zoo has keys of its own: num_networks, chunk_size, "),
        ("zoo=[1]", "zoo=[1]: zoo has keys of its own: num_networks, chunk_size, "),
        ("generator=null", "generator=null: generator has keys of its own: order, "),
        ("recipe.tune=3", "recipe.tune=3: recipe.tune has keys of its own: steps, "),
        ("dataset.text=5", "dataset.text=5: dataset.text has keys of its own: columns, "),
        ("target.options=5", "target.options=5 must be keys with values: {KEY: VALUE}"),
        ("target.options=[5]", "target.options=[5] must be keys with values: {KEY: VALUE}"),
        ("backbone.architecture=x", "backbone.architecture=x must be keys with values: {KEY: VALUE}, or null for none"),
        ("backbone.package={name:x}", "no key backbone.package.name; allowed: distribution, model"),
        # keys and files that do not exist
        ("datset=digits", "the config has no key datset; did you mean dataset? allowed: name, study_name, "),
        ("dataset.titel=x", "the config has no key dataset.titel; did you mean dataset.title? allowed: name, title, "),
        ("+foo=1", "the config has no key foo; allowed: name, study_name, "),
        ("lr=1", "no key lr; did you mean zoo.training.lr or classical.training.lr or recipe.inject.lr? allowed: name"),
        ("num_networks=3", "did you mean zoo.num_networks or classical.num_networks?"),
        ("a.b.c=1", "the config has no key a; allowed: name"),
        ("seed.x=1", "the config has no key seed.x: seed must be a whole number; write seed=VALUE"),
        (
            "dataset.text.columns=[a]",
            "dataset.text.columns cannot be set, since dataset.text is null with these choices",
        ),
        ("target.options.foo=5", "target.options has no foo yet; write +target.options.foo=VALUE to add it"),
        ("cluster.partiton=x", "no key cluster.partiton; did you mean cluster.partition? allowed: name, partition, "),
        (
            "cluster.steps.default.node=1",
            "no key cluster.steps.default.node; did you mean cluster.steps.default.nodes?",
        ),
        ("cluster.steps.tunes.nodes=1", "cluster.steps.tunes is unknown; did you mean tune? allowed: default, check, "),
        ("cluster.srun=[--a=b]", "a list is written"),
        ("zero.stag=1", "the config has no key zero.stag; did you mean zero.stage? allowed: stage, offload"),
        ("hydra.foo=3", "Hydra has no setting hydra.foo; --cfg hydra shows those that it has"),
        ("dataset=imagefolder", "dataset=imagefolder is unknown; did you mean image_folder? allowed: ag_news, arrays"),
        ("dataset=/data/pictures", "for your own: dataset=image_folder dataset.path=FOLDER, or dataset=text_table"),
        ("backbone=gpt2/medium", "for your own: backbone=causal_lm backbone.model=OWNER/NAME"),
        ("recipe=", "recipe= is unknown; allowed: fast, paper"),
        (
            "target=null",
            "target=null is unknown; allowed: cnn, cnn_small, lenet, mlp, resnet20, resnet8, rnn, torchvision",
        ),
        ("gpu=h300", "gpu=h300 is unknown; did you mean h200? allowed: a100_40"),
        ("hydra/launcher=slrum", "hydra/launcher=slrum is unknown; did you mean slurm? allowed: basic, local, slurm"),
        ("target@sorce=cnn", "target@sorce: only a target may be given for another place; allowed: target@source=NAME"),
        # signs before a key
        ("+seed=1", "+seed=… adds what is there already; leave out the +: seed=VALUE"),
        ("+preset=together", "+preset=… adds what is there already; leave out the +: preset=VALUE"),
        ("~generator", "~generator takes away what an experiment needs; leave it out"),
        ("seed", "sets nothing; write KEY=VALUE, without blanks around the ="),
        ("seed = 1", "'seed' sets nothing; write KEY=VALUE, without blanks around the ="),
        # values that are made of others
        ("root=${oc.env:NG_NOT_SET}", "NG_NOT_SET is not set; export NG_NOT_SET=VALUE first"),
        ("seed=${x}", "seed=${x}: the config has no key x; to write a text with ${ in it"),
        ("seed=${seed}", "seed=${seed} refers to itself; give a value"),
        ("seed=${root}", "seed=${root} must be a whole number"),
        ("root=${foo:1}", "root=${foo:1} cannot be replaced; allowed: ${KEY}, ${oc.env:VARIABLE}"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line_of_ours(words: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(["backbone=tiny_llama", *shlex.split(words.replace("'", "\\'"))])
    text = str(caught.value)
    assert line in text
    assert "\n" not in text
    assert not [word for word in INTERNAL if word in text]


def test_of_the_keys_below_an_unknown_one_the_unknown_one_is_named() -> None:
    assert unknown_key("genrator.order", Experiment).startswith(
        "the config has no key genrator; did you mean generator?"
    )
