"""A job's source: the files of its bundle, and the scenarios, providers and tools that they hold."""
