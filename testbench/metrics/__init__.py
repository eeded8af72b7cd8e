"""Scores: metric frameworks behind one adapter interface, the judge that they share, and the evaluation itself."""
