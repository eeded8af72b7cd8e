"""The manifests render, fit Kubernetes' schemas, and name only what exists. `make manifests` runs these.

kubectl or kustomize renders; without either the tests that need it are skipped. Templates and workflows are looked at
more closely in `test_templates`, and run in `test_workflows`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from importlib import import_module

import kubernetes_validate  # type: ignore[import-untyped] # has no types
import pytest
import yaml

from testbench.samples.locate import sample_path
from tests.support.manifest_files import (
    DEPLOY,
    PHASES,
    WORKFLOWS,
    Document,
    assert_restricted,
    nodes,
    template,
    workflow,
)

ROOT = DEPLOY.parent
FOLDERS = ("base", "local", "local-sample-agent")
KUBERNETES = "1.32"
RENDERERS = {"kubectl": ("kubectl", "kustomize"), "kustomize": ("kustomize", "build")}


@cache
def rendered(folder: str) -> tuple[Document, ...]:
    """The documents that a folder of `deploy` is rendered to."""
    command = next((command for name, command in RENDERERS.items() if shutil.which(name)), None)
    if command is None:
        pytest.skip("neither kubectl nor kustomize is installed")
    done = subprocess.run([*command, str(DEPLOY / folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(documents: tuple[Document, ...], kind: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_document_of_kubernetes_own_fits_its_schema(folder: str) -> None:
    own = [each for each in rendered(folder) if "." not in each["apiVersion"].partition("/")[0]]
    assert own or folder == "base"
    for document in own:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_document_has_a_namespace_that_is_there(folder: str) -> None:
    namespaces = set(of_kind(rendered(folder), "Namespace")) or {"testkube"}
    homes = {each["metadata"]["namespace"] for each in rendered(folder) if each["kind"] != "Namespace"}
    assert homes <= namespaces


def test_the_base_is_the_six_templates_whole() -> None:
    assert {name: each["spec"] for name, each in of_kind(rendered("base"), "TestWorkflowTemplate").items()} == {
        f"{phase}-template": template(phase) for phase in PHASES
    }
    assert len(rendered("base")) == len(PHASES)


def test_the_sample_agent_takes_the_place_of_the_agent_resource() -> None:
    local, sample = rendered("local"), rendered("local-sample-agent")
    (agent,) = of_kind(local, "Agent")
    deployment = of_kind(sample, "Deployment")[agent]
    assert not of_kind(sample, "Agent")
    assert agent in of_kind(sample, "Service")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["python3", "-m"]
    assert import_module(container["command"][2])
    image = workflow("multi-turn-workflow")["config"]["image"]["default"]
    assert container["image"] == image


@pytest.mark.parametrize("folder", ["local", "local-sample-agent"])
def test_a_service_finds_its_pods_and_their_ports(folder: str) -> None:
    for name, service in of_kind(rendered(folder), "Service").items():
        pod = of_kind(rendered(folder), "Deployment")[name]["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        open_ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= open_ports


def test_the_data_server_serves_what_is_mounted_at_its_port() -> None:
    (container,) = of_kind(rendered("local"), "Deployment")["data-server"]["spec"]["template"]["spec"]["containers"]
    (port,) = (port["containerPort"] for port in container["ports"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    configuration = (DEPLOY / "local/data-server/default.conf").read_text().split()
    assert f"listen {port}; root {mounts['datasets']};" in " ".join(configuration)
    assert container["readinessProbe"]["httpGet"]["path"] == "/dataset.csv"


def test_the_sample_agent_listens_where_its_service_looks_for_it() -> None:
    documents = rendered("local-sample-agent")
    (container,) = of_kind(documents, "Deployment")["weather-agent"]["spec"]["template"]["spec"]["containers"]
    (service_port,) = of_kind(documents, "Service")["weather-agent"]["spec"]["ports"]
    (port,) = (port["containerPort"] for port in container["ports"])
    given = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert (given["--host"], given["--port"]) == ("0.0.0.0", str(port))
    address = f"http://weather-agent.sample-agents:{service_port['port']}"
    assert (
        given["--public-url"].rstrip("/") == address == workflow("multi-turn-workflow")["config"]["agentUrl"]["default"]
    )


@pytest.mark.parametrize("folder", ["local", "local-sample-agent"])
def test_every_address_in_the_cluster_is_that_of_a_service(folder: str) -> None:
    documents = rendered(folder)
    namespaces = of_kind(documents, "Namespace")
    ports = {
        (each["metadata"]["name"], each["metadata"]["namespace"]): {port["port"] for port in each["spec"]["ports"]}
        for each in of_kind(documents, "Service").values()
    }
    for agent in of_kind(documents, "Agent").values():
        key = (agent["metadata"]["name"], agent["metadata"]["namespace"])
        ports[key] = {protocol["port"] for protocol in agent["spec"]["protocols"]}
    texts = [node for each in documents for node in nodes(each) if isinstance(node, str)]
    addresses = {found for text in texts for found in re.findall(r"http://([\w-]+)\.([\w-]+):(\d+)", text)}
    known = {address for address in addresses if address[1] in namespaces}
    assert len(known) == 3
    for name, namespace, port in known:
        assert int(port) in ports[name, namespace]


@pytest.mark.parametrize("folder", ["local", "local-sample-agent"])
def test_every_config_map_that_is_named_is_there(folder: str) -> None:
    there = {
        (each["metadata"]["name"], each["metadata"]["namespace"]): {*each.get("data", {}), *each.get("binaryData", {})}
        for each in of_kind(rendered(folder), "ConfigMap").values()
    }
    for document in rendered(folder):
        named = [
            node["configMap"]["name"] for node in nodes(document) if isinstance(node, dict) and "configMap" in node
        ]
        assert {(name, document["metadata"]["namespace"]) for name in named} <= set(there)
    mount = "/app/experiment/"
    url: str = workflow("multi-turn-workflow")["steps"][0]["template"]["config"]["datasetUrl"]
    assert url.removeprefix(mount) in there["multi-turn-experiment", "testkube"]


@pytest.mark.parametrize("folder", ["local", "local-sample-agent"])
def test_our_pods_are_restricted(folder: str) -> None:
    deployments = of_kind(rendered(folder), "Deployment")
    ours = {name: each for name, each in deployments.items() if name != "lgtm"}
    assert ours
    for deployment in ours.values():
        pod = deployment["spec"]["template"]["spec"]
        assert_restricted(pod["securityContext"], pod["containers"])


@pytest.mark.parametrize("folder", ["local", "local-sample-agent"])
def test_images_are_pinned_but_our_own(folder: str) -> None:
    inside = [node for each in rendered(folder) for node in nodes(each.get("spec")) if isinstance(node, dict)]
    images = {node["image"] for node in inside if isinstance(node.get("image"), str)}
    pinned = images - {"{{ config.image }}", workflow("multi-turn-workflow")["config"]["image"]["default"]}
    assert pinned
    assert all(re.search(r":v?\d+\.\d+\.\d+", image) for image in pinned)


def test_grafana_gets_every_dashboard_and_the_provider_that_loads_them() -> None:
    documents = rendered("local")
    (lgtm,) = [each for each in of_kind(documents, "Deployment").values() if each["metadata"]["name"] == "lgtm"]
    pod = lgtm["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = [source["configMap"]["name"] for source in volumes["dashboards"]["projected"]["sources"]]
    maps = of_kind(documents, "ConfigMap")
    dashboards = [name for name, each in maps.items() if "grafana_dashboard" in each["metadata"].get("labels", {})]
    assert sorted(mounted) == sorted(dashboards)
    provider = yaml.safe_load(maps["testbench-dashboard-provider"]["data"]["provider.yaml"])
    paths = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert [each["options"]["path"] for each in provider["providers"]] == [paths["dashboards"]]
    assert paths["provider"].startswith("/otel-lgtm/grafana/conf/provisioning/dashboards/")
    assert {port["containerPort"] for port in pod["containers"][0]["ports"]} == {3000, 4317, 4318}


@pytest.mark.parametrize("name", ["weather.csv", "weather.json", "weather.parquet", "experiment.yaml"])
def test_the_served_datasets_are_the_samples(name: str) -> None:
    copy = DEPLOY / "local" / "data-server" / "datasets" / name
    assert copy.read_bytes() == sample_path(name).read_bytes(), f"cp {sample_path(name)} {copy}"


def test_the_default_dataset_is_served() -> None:
    kustomization = yaml.safe_load((DEPLOY / "local" / "data-server" / "kustomization.yaml").read_text())
    (datasets,) = [each for each in kustomization["configMapGenerator"] if each["name"] == "datasets"]
    served = {entry.partition("=")[0] for entry in datasets["files"]}
    url: str = workflow("ragas-evaluation-workflow")["config"]["datasetUrl"]["default"]
    assert url.rpartition("/")[2] in served


def test_the_makefile_builds_the_image_that_is_deployed() -> None:
    (image,) = re.findall(r"^IMAGE \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {workflow(name)["config"]["image"]["default"] for name in WORKFLOWS} == {image}
