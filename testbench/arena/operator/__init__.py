"""ArenaJobs in a cluster: Kubernetes' own Jobs do the work, the operator keeps them and the status up to date.

    observer (reads) -> reconcile (pure) -> actions, status -> loop (writes), again and again

    settings, metadata           what a deployment decides; names, labels and owners of every object
    observed, pod_messages       an ArenaJob, its Jobs, what their pods reported and why they do not start
    references                   from a job's references to everything that its pods need, or why not
    pods, jobs                   the Jobs of a run
    reconcile, schedules         what to do next
    actions, job_state           the answer: actions, events and the status
    observer, loop, command      the process
    fetch                        runs in a pod before its worker, where a bundle is an archive

The API server is `testbench.arena.cluster`. The package needs no Kubernetes library: the loop lists and watches over
httpx. A framework would bring watches that end the process on a handful of everyday faults, and a finalizer that keeps
an ArenaJob from being deleted while the operator is down; without both, little more than this loop is left of it.
"""
