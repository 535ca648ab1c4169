"""Datasets. dataset.py is the contract that every loader fulfils; images.py and texts.py are the built-in loaders.
corpora.py has documents inside a package, by corpus_files.py. tables.py reads a file of texts, by separated.py and
records.py; labels.py makes numbers of labels, and duplicates.py keeps splits from sharing samples.
preparation.py turns raw samples into what target networks read, and tokenised.py stores texts that are ready for that.
identity.py names a dataset before it is loaded; foreign.py has samples that belong to no task."""

from neurogen.data.identity import identity

__all__ = ["identity"]
