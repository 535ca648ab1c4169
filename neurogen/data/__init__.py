"""Datasets: where samples and labels are read from, what is made of them, and what tells one dataset from another.

in:  the config of a dataset, or what a program hands over
out: a Dataset

dataset.py      the contract that every loader fulfils; raw.py is what a loader returns
images.py       loaders of images: published.py, folders.py with pictures.py, glyphs.py and kanji.py, pool.py, arrays.py
texts.py        loaders of texts: hub_dataset.py, and tables.py with separated.py and records.py; corpora.py
labels.py       labels become numbers; duplicates.py keeps splits from sharing samples
preparation.py  raw samples become what target networks read; tokenised.py stores texts that are ready for that
identity.py     a dataset is named before it is loaded; report.py says what was read
foreign.py      samples that belong to no task
"""
