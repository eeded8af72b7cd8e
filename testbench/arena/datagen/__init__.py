"""Data generation: questions with their reference answers, written by a model from prompts and seed documents.

    seeds -> requests of a round -> batches -> distinct items -> enough? else another round -> dataset

The dataset has the columns that `setup.py` reads, so that it is the input of the next evaluation as it stands.
"""
