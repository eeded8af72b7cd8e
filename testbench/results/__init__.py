"""What an evaluated experiment amounts to: checks, summary, selection, comparison, intervals, the verdict."""
