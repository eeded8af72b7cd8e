"""Runs a plan: the workers, the reducer, and this machine as their executor.

Composes packages like a script does: the rest of the arena knows nothing of it. `context.JobContext` is what every type
of job works with.
"""
