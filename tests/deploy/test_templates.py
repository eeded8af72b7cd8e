"""Templates and workflows agree with each other, with the scripts, and with what Testkube leaves unsaid.

Testkube says nothing before a run about a parameter that nobody declares, an expression without a value, or a retry
that it ignores; here it is said. Rules of Testkube 2.4, standalone. `make manifests` runs these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from zoneinfo import ZoneInfo

import click
import pytest

from testbench import defaults
from tests.support.manifest_files import (
    DEPLOY,
    PHASES,
    WORKFLOWS,
    Document,
    assert_restricted,
    load,
    nodes,
    template,
    workflow,
)

SEEN_BY_EXPRESSIONS = {"workflow.name", "execution.id", "execution.number"}


def used(spec: Document) -> set[str]:
    """What the expressions of a workflow or template name, in braces or in a condition."""
    body = {key: value for key, value in spec.items() if key != "config"}
    texts = [node for node in nodes(body) if isinstance(node, str)]
    return {
        name
        for text in texts
        for expression in [*re.findall(r"\{\{(.*?)\}\}", text), *re.findall(r"^passed && (.*)$", text)]
        for name in re.findall(r"[a-z]\w*\.\w+", expression)
    }


def parameters(spec: Document) -> set[str]:
    return {name.removeprefix("config.") for name in used(spec) if name.startswith("config.")}


@pytest.mark.parametrize("phase", PHASES)
def test_a_template_declares_what_it_uses_and_uses_what_it_declares(phase: str) -> None:
    assert parameters(template(phase)) == set(template(phase)["config"])
    assert used(template(phase)) - {f"config.{name}" for name in template(phase)["config"]} <= SEEN_BY_EXPRESSIONS


def test_the_templates_can_be_applied_as_a_folder_into_any_namespace() -> None:
    files = sorted(path.name for path in (DEPLOY / "base" / "templates").iterdir())
    assert files == sorted(f"{phase}-template.yaml" for phase in PHASES)
    assert not any("namespace" in load(f"base/templates/{name}")["metadata"] for name in files)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_declares_what_it_uses_and_uses_what_it_declares(name: str) -> None:
    assert parameters(workflow(name)) == set(workflow(name)["config"])
    assert all("default" in schema for schema in workflow(name)["config"].values())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_template_is_given_what_it_needs_and_nothing_that_it_ignores(name: str) -> None:
    for step in workflow(name)["steps"]:
        declared = template(step["name"])["config"]
        needed = {key for key, schema in declared.items() if "default" not in schema}
        assert needed <= set(step["template"]["config"]) <= set(declared)


@pytest.mark.parametrize("name", [*WORKFLOWS, *PHASES])
def test_defaults_are_texts_of_their_type(name: str) -> None:
    """A default that is no text or integer is refused by Kubernetes, and one of another type breaks the run."""
    spec = workflow(name) if name in WORKFLOWS else template(name)
    booleans = {"true": True, "false": False}
    casts: Mapping[str, Callable[[str], object]] = {"string": str, "integer": int, "number": float}
    casts = {**casts, "boolean": booleans.__getitem__}
    for schema in spec["config"].values():
        assert schema["description"]
        if "default" in schema:
            assert isinstance(schema["default"], str)
            casts[schema["type"]](schema["default"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_every_phase_in_order_and_the_gate_last(name: str) -> None:
    steps = workflow(name)["steps"]
    assert [step["name"] for step in steps] == list(PHASES)
    assert [step["template"]["name"] for step in steps] == [f"{phase}-template" for phase in PHASES]
    after_failure = {step["name"] for step in steps if step.get("condition") == "always"}
    assert after_failure == {"visualize", "gate"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_gate_has_its_turn_before_the_deadline(name: str) -> None:
    spec = workflow(name)
    minutes = [int(re.fullmatch(r"(\d+)m", step["timeout"])[1]) for step in spec["steps"]]  # type: ignore[index] # or fails
    assert sum(minutes) * 60 < spec["job"]["activeDeadlineSeconds"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_report_and_gate_apply_the_same_policy(name: str) -> None:
    given = {step["name"]: step["template"]["config"] for step in workflow(name)["steps"]}
    assert given["visualize"] == given["gate"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflows_pod_is_restricted_and_shares_the_data_folder(name: str) -> None:
    pod, container = workflow(name)["pod"], workflow(name)["container"]
    assert_restricted(pod["securityContext"], [container])
    user = pod["securityContext"]
    assert user["runAsUser"] == user["runAsGroup"] == user["fsGroup"] == 10001
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert "emptyDir" in volumes[mounts["/app/data"]]
    assert set(mounts.values()) == set(volumes)
    assert {"name": "HOME", "value": "/tmp"} in container["env"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_registry_is_asked_about_the_image(name: str) -> None:
    container = workflow(name)["container"]
    assert container["workingDir"] == "/app"
    assert container["securityContext"]["runAsGroup"] == workflow(name)["pod"]["securityContext"]["runAsGroup"]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert all(step["run"]["command"] for phase in PHASES for step in template(phase)["steps"])


@pytest.mark.parametrize("name", [*WORKFLOWS, *PHASES])
def test_nothing_needs_testkubes_control_plane_or_a_shell(name: str) -> None:
    spec = workflow(name) if name in WORKFLOWS else template(name)
    keys = {key for node in nodes(spec) if isinstance(node, dict) for key in node}
    assert not keys & {"parallel", "services", "execute", "matrix", "shards", "shell"}
    assert "concurrency" not in spec


# --- what the templates tell the phases


@pytest.mark.parametrize("phase", PHASES)
def test_a_template_runs_its_phase_with_options_that_the_phase_has(phase: str) -> None:
    (step,) = template(phase)["steps"]
    assert step["run"]["command"] == ["python3", "-m", f"testbench.{phase}"]
    command = import_module(f"testbench.{phase}").command
    options = {each.name for each in command.params if isinstance(each, click.Option)}
    prefix = f"TESTBENCH_{phase.upper()}_"
    names = [entry["name"] for entry in step["run"].get("env", ())]
    assert {name.removeprefix(prefix).lower() for name in names if name.startswith("TESTBENCH_")} <= options
    positional = [each for each in command.params if isinstance(each, click.Argument)]
    arguments = step["run"].get("args", [])
    assert arguments[:1] == (["--"] if positional else [])  # what follows is never taken for an option
    assert len(arguments[1:]) == len(positional)


@pytest.mark.parametrize(
    ("phase", "parameter", "value"),
    [
        ("run", "concurrency", defaults.AGENT_CONCURRENCY),
        ("run", "timeoutSeconds", defaults.AGENT_TIMEOUT_S),
        ("evaluate", "concurrency", defaults.JUDGE_PACE),
        ("visualize", "minPassRate", defaults.MIN_PASS_RATE),
        ("visualize", "maxErrorRate", defaults.MAX_ERROR_RATE),
        ("gate", "minPassRate", defaults.MIN_PASS_RATE),
        ("gate", "maxErrorRate", defaults.MAX_ERROR_RATE),
    ],
)
def test_a_templates_default_is_the_scripts(phase: str, parameter: str, value: float | str) -> None:
    default: str = template(phase)["config"][parameter]["default"]
    assert type(value)(default) == value


def test_the_artifacts_are_the_report_the_verdict_and_all_json() -> None:
    taken = [path for phase in PHASES for path in template(phase)["steps"][0].get("artifacts", {}).get("paths", ())]
    written = [defaults.EXPERIMENT_FILE, defaults.EXECUTED_FILE, defaults.EVALUATED_FILE]
    written += [defaults.REPORT_FILE, defaults.VERDICT_FILE, defaults.JUNIT_FILE]
    (summary,) = [
        each["value"] for each in template("gate")["steps"][0]["run"]["env"] if each["name"].endswith("SUMMARY")
    ]
    assert taken == [*map(str, written), summary]


def test_what_may_be_done_again_is_retried_and_a_verdict_never_is() -> None:
    retried = {phase for phase in PHASES if template(phase)["steps"][0].get("retry")}
    assert retried == {"setup", "run", "evaluate", "publish"}
    for name in WORKFLOWS:  # Testkube ignores it there
        assert not any("retry" in step for step in workflow(name)["steps"])


@pytest.mark.parametrize("phase", PHASES)
def test_secrets_are_references_that_may_be_missing(phase: str) -> None:
    run = template(phase)["steps"][0]["run"]
    for entry in run.get("env", ()):
        secret = re.search(r"KEY|HEADER|TOKEN|SECRET", entry["name"])
        assert bool(secret) == ("valueFrom" in entry), entry["name"]
        assert not secret or entry["valueFrom"]["secretKeyRef"]["optional"] is True
    assert all(source["secretRef"]["optional"] is True for source in run.get("envFrom", ()))


def test_the_readme_names_every_secret_and_its_keys() -> None:
    readme = (DEPLOY / "README.md").read_text()
    references = [node for phase in PHASES for node in nodes(template(phase)) if isinstance(node, dict)]
    named = {each["secretKeyRef"][part] for each in references if "secretKeyRef" in each for part in ("name", "key")}
    named |= {each["secretRef"]["name"] for each in references if "secretRef" in each}
    assert set(re.findall(r"`(testbench-[\w-]+|[A-Z]+_[A-Z_]+)`", readme.partition("## Secrets")[2])) == {
        *named,
        "GOOGLE_API_KEY",
    }


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_its_share_of_memory(phase: str) -> None:
    resources = template(phase)["steps"][0]["run"]["resources"]
    assert resources["requests"]["memory"]
    assert resources["limits"]["memory"]


# --- what starts a workflow


def test_the_schedule_is_one_and_sets_what_the_workflow_declares() -> None:
    spec = workflow("ragas-evaluation-workflow")
    (event,) = spec["events"]
    cron = event["cronjob"]
    assert len(cron["cron"].split()) == 5
    assert ZoneInfo(cron["timezone"])
    assert set(cron["config"]) <= set(spec["config"])


def test_a_new_rollout_of_the_agent_starts_the_workflow_that_tests_it() -> None:
    trigger = load("local/agent-redeployed-trigger.yaml")["spec"]
    agent = load("local/weather-agent.yaml")
    assert trigger["resource"] == "deployment"
    assert trigger["resourceSelector"] == {key: agent["metadata"][key] for key in ("name", "namespace")}
    assert trigger["event"] == "deployment-generation-modified"
    assert (trigger["action"], trigger["execution"]) == ("run", "testworkflow")
    assert trigger["concurrencyPolicy"] == "forbid", "not while a run is under way"
    assert trigger["testSelector"]["namespace"] == load("local/ragas-evaluation-workflow.yaml")["metadata"]["namespace"]
    assert trigger["testSelector"]["name"] in WORKFLOWS
    tested: str = workflow(trigger["testSelector"]["name"])["config"]["agentUrl"]["default"]
    (probe,) = trigger["probeSpec"]["probes"]
    assert tested == f"{probe['scheme']}://{probe['host']}:{probe['port']}"
