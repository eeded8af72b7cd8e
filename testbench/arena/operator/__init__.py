"""ArenaJobs in a cluster: Kubernetes' own Jobs do the work, this keeps them and the status in step with the manifest.

    observe (reads) -> reconcile (pure) -> actions, status -> shell (writes), again and again

    kinds, names, settings       what things are called
    observed, messages, troubles what is known of an ArenaJob, its Jobs, what their pods said and why they do not start
    references                   from a job's references to everything that its pods need, or why not
    pods, jobs                   the Jobs that are made of it
    reconcile, schedules, scaling, events
                                 what to do next
    cluster, access, http_cluster
                                 the API server: the protocol, who asks, the requests
    observe, shell, health, __main__
                                 the process
    fetch                        what runs in a pod before its worker, where a bundle is an archive

The package needs no Kubernetes library: the shell is a list-and-watch loop over httpx. A framework would bring watches
that end the process on a handful of everyday faults, and a finalizer that keeps an ArenaJob from being deleted while
the operator is down; what is left of it without both is this loop.
"""
