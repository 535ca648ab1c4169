"""Other ways of reading a name: which known class is meant, without a trained generator.

in:  the language model as it was before its training, the names of all classes for training, a name
out: for every name the class that each baseline takes it for

nearest_embedding  the known name with the most similar mean of the model's input embeddings (cosine, less the mean)
nearest_state      the same with the mean of its last hidden states
nearest_sentence   the same with another model, an encoder of sentences (evaluate.sentence_encoder)
asked              the class whose words the model finds likelier after "NAME is a kind of" than after "it is a kind
                   of"; of several such wordings the one that is best on validation names
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neurogen.config import NamesConfig, SentenceEncoder
from neurogen.data.splits import SplitName
from neurogen.generator.backbone import Backbone, tokenised
from neurogen.generator.parts import TokenIds
from neurogen.progress import Progress
from neurogen.stages.listed import Names, names_of
from neurogen.study.results import Population

WORDINGS = ("{} is a kind of", "{} means the same as", "Another word for {} is", "Question: what is {}? Answer:")
WITHOUT_NAME = "it"
MOST_CLASSES_ASKED = 50  # the number of questions grows with that of classes
MOST_ASKED = 80  # names for validation, by which a wording is chosen; each is a question per class and wording
BATCH = 64  # sequences


@dataclass(frozen=True)
class KnownNames:
    """All names for training, and the class of each."""

    texts: list[str]
    classes: Int64[Tensor, " names"]

    @staticmethod
    def of(class_names: Sequence[str], names: Names, split: SplitName) -> KnownNames:
        """Raises UserError for a class without names."""
        by_class = [names_of(name, names, split) for name in class_names]
        classes = [index for index, options in enumerate(by_class) for _ in options]
        return KnownNames([text for options in by_class for text in options], torch.tensor(classes))

    def some(self, most: int) -> KnownNames:
        """At most so many of them, evenly from the first to the last."""
        step = math.ceil(len(self.texts) / most)
        return KnownNames(self.texts[::step], self.classes[::step])


Chosen = dict[Population, dict[str, int]]  # by baseline, the class of every name


@torch.no_grad()
def chosen_classes(
    backbone: Backbone,
    class_names: Sequence[str],
    names: dict[str, NamesConfig],
    asked: Sequence[str],
    sentence_encoder: SentenceEncoder | None = None,
) -> Chosen:
    """The class that each baseline takes every name of `asked` for. A model whose output is not its input embedding
    cannot be asked, since it is loaded without its output layer; nor is any about more than MOST_CLASSES_ASKED."""
    known = KnownNames.of(class_names, names, SplitName.TRAIN)
    asked = list(dict.fromkeys(asked))
    with backbone.model.disable_adapter():
        chosen = {
            Population.NEAREST_EMBEDDING: _nearest(partial(_mean_embeddings, backbone), known, asked),
            Population.NEAREST_STATE: _nearest(partial(_mean_states, backbone), known, asked),
        }
        if sentence_encoder is not None:
            chosen[Population.NEAREST_SENTENCE] = _nearest(_sentences, known, asked)
        if backbone.model.config.get_text_config().tie_word_embeddings and len(class_names) <= MOST_CLASSES_ASKED:
            validation = KnownNames.of(class_names, names, SplitName.VALIDATION).some(MOST_ASKED)
            wording = _best_wording(backbone, class_names, validation)
            scores = _scores(backbone, class_names, asked, wording)
            chosen[Population.ASKED] = scores.argmax(1)
    return {name: dict(zip(asked, classes.tolist(), strict=True)) for name, classes in chosen.items()}


def _nearest(
    encode: Callable[[Sequence[str]], Float[Tensor, "names hidden"]], known: KnownNames, asked: Sequence[str]
) -> Int64[Tensor, " asked"]:
    """The class of the known name that is most similar, once the mean of all known names is taken away."""
    vectors, others = (torch.nn.functional.normalize(encode(texts)) for texts in (known.texts, asked))
    centre = vectors.mean(0)
    similar = torch.nn.functional.normalize(others - centre) @ torch.nn.functional.normalize(vectors - centre).T
    return known.classes[similar.argmax(1)]


def _mean_embeddings(backbone: Backbone, texts: Sequence[str]) -> Float[Tensor, "names hidden"]:
    parts = [[TokenIds(torch.tensor(ids))] for ids in tokenised(list(texts), backbone.tokenizer)]
    return torch.stack([vectors.mean(0) for (vectors,) in backbone.embed(parts)]).cpu()


def _mean_states(backbone: Backbone, texts: Sequence[str]) -> Float[Tensor, "names hidden"]:
    ids = tokenised(list(texts), backbone.tokenizer)
    return torch.stack([states.mean(0) for states in _states(backbone, ids)]).cpu()


def _sentences(texts: Sequence[str]) -> Float[Tensor, "names hidden"]:
    import wordllama

    folder = Path(wordllama.__file__).parent  # of the weights and the tokenizer, which it would download again
    encoder = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    return torch.from_numpy(encoder.embed(list(texts)))


def _states(backbone: Backbone, ids: Sequence[list[int]]) -> list[Float[Tensor, "_ hidden"]]:
    """The last hidden states of every sequence."""
    batches = [ids[first : first + BATCH] for first in range(0, len(ids), BATCH)]
    read = (backbone([[TokenIds(torch.tensor(sequence))] for sequence in batch]) for batch in batches)
    return [states for batch in read for (states,) in batch]


def _best_wording(backbone: Backbone, class_names: Sequence[str], validation: KnownNames) -> str:
    """The wording that takes most names for validation for the right class."""

    def share(wording: str) -> float:
        chosen = _scores(backbone, class_names, validation.texts, wording).argmax(1)
        return float((chosen == validation.classes).double().mean())

    return max(WORDINGS, key=share)


def _scores(
    backbone: Backbone, class_names: Sequence[str], asked: Sequence[str], wording: str
) -> Float[Tensor, "asked classes"]:
    """log p(class | name) − log p(class) under a wording, from the logits of the class's tokens."""
    prefixes = [wording.format(name) for name in (*asked, WITHOUT_NAME)]
    prefix_ids = tokenised(prefixes, backbone.tokenizer)
    class_ids = tokenised([f" {name}" for name in class_names], backbone.tokenizer)
    pairs = [(prefix, ending) for prefix in prefix_ids for ending in class_ids]
    table = backbone.model.get_input_embeddings().weight
    scores = []
    with Progress("language model asked", len(pairs), unit="questions") as progress:
        for first in range(0, len(pairs), BATCH):
            batch = pairs[first : first + BATCH]
            for (prefix, ending), states in zip(batch, _states(backbone, [p + e for p, e in batch]), strict=True):
                logits = states[len(prefix) - 1 : -1].to(table.dtype) @ table.T
                scores.append(logits.float().log_softmax(1)[torch.arange(len(ending)), torch.tensor(ending)].sum())
            progress.advance(len(batch))
    conditional = torch.stack(scores).reshape(len(prefixes), len(class_ids)).cpu()
    return conditional[:-1] - conditional[-1]
