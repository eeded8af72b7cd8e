"""A run of a job, on this machine or in a pod: its context, its folder, its processes."""
