"""A cluster for tests: a strict API server, the Indexed-Job controller, and a kubelet whose pods are local processes.

    objects, failures            what is stored, and how a request is refused
    patching, selectors, schema_check, job_rules, admission
                                 what the server knows about a write, each of it pure
    store, watching              the objects and their history
    discovery, tables, faults, api_server
                                 the HTTP side
    client                       how the rest (and a test) talks to this server or to a real one
    job_controller, kubelet      what makes Jobs run; the kubelet also serves a real API server

`tests_cluster` runs the same tests against a real kube-apiserver and kube-controller-manager.
"""
