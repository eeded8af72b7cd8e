"""The operator's settings, which its deployment decides for all jobs alike. Defaults are in `testbench.defaults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from testbench import defaults
from testbench.arena.cluster.api import Json
from testbench.arena.load.traffic import PER_WORKER_RPS

WORKER_ENVIRONMENT: Final = "arena-worker"
"""Name of the ConfigMap and the Secret of a job's namespace whose keys are variables of every worker; both optional."""


@dataclass(frozen=True)
class OperatorSettings:
    """Times are in seconds."""

    image: str = defaults.OPERATOR_IMAGE
    image_pull_policy: str = defaults.OPERATOR_PULL_POLICY
    service_account: str = defaults.OPERATOR_SERVICE_ACCOUNT
    """Of the workers, who get no token of it; it matters where a cloud hands out storage rights by it."""
    resources: Json | None = None
    """Requests and limits of every container; None: what `resources_for` returns."""
    cross_namespace: bool = False
    """Whether a job may use Providers of other namespaces. Their Secrets are copied into the job's."""
    retries: int = defaults.OPERATOR_RETRIES
    """Further tries of an index, and of a Job of one pod that can go on with its work."""
    requests_per_worker: int = PER_WORKER_RPS
    """Requests a second that one worker of a load test is given, where the manifest leaves the number open."""
    start_timeout_s: float = defaults.OPERATOR_START_TIMEOUT_S
    """All workers of a load test have to be ready within it."""
    start_lead_s: float = defaults.OPERATOR_START_LEAD_S
    """From the moment they are ready to the common start: a kubelet takes up to 90 s to hand on a changed volume."""
    reference_poll_s: float = 15
    status_interval_s: float = 5
    """Between two writes of a status in which only numbers changed."""
    resync_s: float = 60
    """A round for every job that has not ended comes this often, whatever the watches deliver."""
    silence_limit_s: float = 600
    """After so long without an answer of the API server the process is unhealthy, and Kubernetes restarts it."""
    round_interval_s: float = 0.5
    """Between two rounds of the same job, however much happens to it."""
    backoff_s: float = 1
    """After a first failure; it doubles with each further one, up to a minute."""

    def resources_for(self, items: int) -> Json:
        """Return the resources of a container that holds so many results: 19 KiB each were measured, 40 are given."""
        limit = max(2048, 1024 + items * 40 // 1024)
        default = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": f"{limit}Mi"}}
        return default if self.resources is None else self.resources
