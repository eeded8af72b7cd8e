"""The formats of datasets, one file for each, and how a file is recognised."""
