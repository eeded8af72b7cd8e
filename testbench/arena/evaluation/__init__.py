"""The job type `evaluation`: its worker, its reducer and their results."""
