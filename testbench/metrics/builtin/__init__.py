"""Metrics of Testbench's own: deterministic, without a judge, and without importing any framework."""
