"""The verdict: what an evaluated experiment amounts to, and how pipelines and test systems read it."""
