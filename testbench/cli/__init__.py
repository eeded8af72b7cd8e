"""What the scripts share: options, outcome, exit codes, progress, logs, and the reference made of them."""
