"""Telemetry over OTLP/HTTP: traces of a run, and the scores of an evaluation as data points and events."""
