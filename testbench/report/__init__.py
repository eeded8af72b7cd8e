"""The report: an evaluated experiment and its verdict as one HTML file that needs nothing but a browser."""
