"""The Tiltfile, evaluated with functions that only note how they are called: versions, ports, names and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import starlark
import yaml

ROOT = Path(__file__).parents[2]
KEY = {"GOOGLE_API_KEY": "secret"}
NAMESPACED = {
    "config_define_string": "config.define_string",
    "config_parse": "config.parse",
    "path_exists": "os.path.exists",
    "getenv": "os.getenv",
    "extension_repo": "v1alpha1.extension_repo",
    "extension_of_repo": "v1alpha1.extension",
}
PRELUDE = """
config = struct(define_string=config_define_string, parse=config_parse)
os = struct(path=struct(exists=path_exists), getenv=getenv)
v1alpha1 = struct(extension_repo=extension_repo, extension=extension_of_repo)

def load_dynamic(name):
    return {
        'ext://dotenv': {'dotenv': dotenv},
        'ext://cert-manager': {'cert_manager_install': cert_manager_install},
        'ext://agent-runtime': {'agent_runtime_install': agent_runtime_install},
        'ext://ai-gateway-litellm': {'ai_gateway_litellm_install': ai_gateway_litellm_install},
        'ext://agent-gateway-krakend': {'agent_gateway_krakend_install': agent_gateway_krakend_install},
    }[name]
"""
PROVIDED = (
    *("config_define_string", "extension_repo", "extension_of_repo", "update_settings", "docker_build", "dotenv"),
    *("k8s_kind", "k8s_yaml", "k8s_resource", "kustomize", "cert_manager_install", "agent_runtime_install"),
    *("ai_gateway_litellm_install", "agent_gateway_krakend_install"),
)


class Refused(Exception):
    """The Tiltfile has called `fail`."""


@dataclass(frozen=True)
class Call:
    name: str
    args: tuple[Any, ...]
    options: Mapping[str, Any]


@dataclass
class Tilt:
    """One evaluation: the calls in their order."""

    calls: list[Call] = field(default_factory=list)

    def noting(self, name: str) -> Callable[..., Any]:
        def note(*args: Any, **options: Any) -> Any:
            self.calls.append(Call(name, args, options))
            return args[0] if name == "kustomize" else None

        return note

    def of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    def versions(self) -> dict[str, str]:
        """What is installed by an extension, in which version."""
        return {call.name: call.options["version"] for call in self.calls if "version" in call.options}

    def ports(self) -> dict[str, str]:
        """What is forwarded: from the local port to a resource and its port."""
        found = {}
        for call in self.of("k8s_resource"):
            forwards = call.options.get("port_forwards", [])
            for forward in [forwards] if isinstance(forwards, str) else forwards:
                local, _, remote = forward.partition(":")
                found[local] = f"{call.args[0]}:{remote}"
        return found


def evaluate(environment: Mapping[str, str], files: tuple[str, ...] = (), **settings: str) -> Tilt:
    """Evaluate the Tiltfile as `tilt up -- --NAME=VALUE` does for every setting, with these local files."""
    tilt = Tilt()
    refusals: list[str] = []

    def fail(message: str) -> None:
        refusals.append(message)
        raise Refused(message)

    module = starlark.Module()
    for name in PROVIDED:
        module.add_callable(name, tilt.noting(name))
    module.add_callable("fail", fail)
    module.add_callable("config_parse", lambda: settings)
    module.add_callable("path_exists", lambda path: path in files)
    module.add_callable("getenv", environment.get)
    try:
        starlark.eval(module, parsed(PRELUDE + (ROOT / "Tiltfile").read_text()), with_structs(), helm_resource_of(tilt))
    except starlark.StarlarkError:
        if refusals:
            raise Refused(refusals[0]) from None
        raise
    return tilt


def parsed(source: str) -> starlark.AstModule:
    dialect = starlark.Dialect.extended()
    dialect.enable_top_level_stmt = True
    dialect.enable_load_reexport = True
    dialect.enable_f_strings = False  # Tilt has none
    return starlark.parse("Tiltfile", source, dialect)


def with_structs() -> starlark.Globals:
    return starlark.Globals.extended_by([starlark.LibraryExtension.StructType])


def helm_resource_of(tilt: Tilt) -> starlark.FileLoader:
    def load(name: str) -> starlark.FrozenModule:
        assert name == "ext://helm_resource"
        module = starlark.Module()
        module.add_callable("helm_resource", tilt.noting("helm_resource"))
        return module.freeze()

    return starlark.FileLoader(load)


def applied(folder: Path) -> list[dict[str, Any]]:
    """The documents of the files that a kustomization names, and of the kustomizations below it."""
    documents: list[dict[str, Any]] = []
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text()).get("resources", ()):
        path = folder / name
        documents += applied(path) if path.is_dir() else [*yaml.safe_load_all(path.read_text())]
    return [document for document in documents if document]


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return evaluate(KEY)


@pytest.fixture(scope="module")
def sample() -> Tilt:
    return evaluate({}, agent="sample")


def test_everything_has_its_version(tilt: Tilt) -> None:
    assert tilt.versions() == {
        "cert_manager_install": "1.18.2",
        "agent_runtime_install": "0.16.0",
        "ai_gateway_litellm_install": "0.3.2",
        "agent_gateway_krakend_install": "0.4.1",
    }
    (repository,) = tilt.of("extension_repo")
    assert repository.options["ref"] == "v0.6.0"
    assert {call.options["repo_name"] for call in tilt.of("extension_of_repo")} == {repository.options["name"]}


def test_testkube_is_installed_from_its_chart(tilt: Tilt) -> None:
    (chart,) = tilt.of("helm_resource")
    assert chart.args == ("testkube", "oci://docker.io/kubeshop/testkube")
    assert chart.options["namespace"] == "testkube"
    assert "--version=2.4.2" in chart.options["flags"]
    assert "--create-namespace" not in chart.options["flags"]  # it is among what is applied


def test_every_part_is_at_its_port(tilt: Tilt, sample: Tilt) -> None:
    ports = {"11000": "lgtm:3000", "4318": "lgtm:4318", "11010": "weather-agent:8000", "11020": "data-server:8000"}
    assert tilt.ports() == ports | {"11001": "ai-gateway-litellm:4000"}
    assert sample.ports() == ports


@pytest.mark.parametrize(("which", "folder"), [("tilt", "deploy/local"), ("sample", "deploy/local-sample-agent")])
def test_every_resource_that_is_named_is_applied_or_installed(
    which: str, folder: str, request: pytest.FixtureRequest
) -> None:
    evaluated: Tilt = request.getfixturevalue(which)
    assert [call.args[0] for call in evaluated.of("k8s_yaml")] == [folder]
    installed = {"testkube", *(call.options["name"] for call in evaluated.of("extension_of_repo"))}
    names = {document["metadata"]["name"] for document in applied(ROOT / folder)} | installed
    for call in evaluated.of("k8s_resource"):
        assert {call.args[0], *call.options.get("resource_deps", [])} <= names


def test_what_needs_testkubes_definitions_waits_for_them(tilt: Tilt) -> None:
    waiting = {call.args[0] for call in tilt.of("k8s_resource") if call.options.get("resource_deps") == ["testkube"]}
    documents = applied(ROOT / "deploy/local")
    assert waiting == {each["metadata"]["name"] for each in documents if "testkube.io" in each["apiVersion"]}


def test_the_agent_waits_for_its_operator_and_its_model_where_it_has_any(tilt: Tilt, sample: Tilt) -> None:
    def waits_for(evaluated: Tilt) -> list[str]:
        (agent,) = (call for call in evaluated.of("k8s_resource") if call.args[0] == "weather-agent")
        found: list[str] = agent.options["resource_deps"]
        return found

    assert waits_for(tilt) == ["agent-runtime", "ai-gateway-litellm"]
    assert waits_for(sample) == []


def test_testkubes_kinds_are_told_and_only_workflows_carry_an_image(tilt: Tilt) -> None:
    kinds = {each["kind"] for each in applied(ROOT / "deploy/local") if "testkube.io" in each["apiVersion"]}
    matches = {kind: [call for call in tilt.of("k8s_kind") if re.search(call.args[0], kind)] for kind in kinds}
    assert {kind: len(calls) for kind, calls in matches.items()} == dict.fromkeys(kinds, 1)
    with_image = {kind for kind, (call,) in matches.items() if "image_json_path" in call.options}
    assert with_image == {"TestWorkflow"}
    (workflow_kind,) = matches["TestWorkflow"]
    assert workflow_kind.options["image_json_path"] == "{.spec.config.image.default}"


def test_the_image_of_the_working_tree_is_the_one_that_the_workflows_run(tilt: Tilt) -> None:
    (build,) = tilt.of("docker_build")
    workflows = [each for each in applied(ROOT / "deploy/local") if each["kind"] == "TestWorkflow"]
    assert {each["spec"]["config"]["image"]["default"] for each in workflows} == {f"{build.args[0]}:latest"}
    assert (ROOT / "Dockerfile").is_file()
    assert all((ROOT / path).exists() for path in build.options["only"])


def test_the_image_is_built_from_all_that_its_dockerfile_copies(tilt: Tilt) -> None:
    (build,) = tilt.of("docker_build")
    lines = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    copied = {path for words in copies for path in words if not path.startswith("--")}
    mounted = set(re.findall(r"type=bind,source=([\w.]+)", "\n".join(lines)))
    assert copied
    assert copied | mounted <= set(build.options["only"])


def test_the_sample_agent_needs_no_key_and_no_operator(sample: Tilt) -> None:
    assert sample.versions() == {}
    assert not sample.of("extension_repo")


def test_without_a_key_it_says_what_to_do() -> None:
    with pytest.raises(Refused, match=re.escape("cp .env.example .env")):
        evaluate({})
    assert "GOOGLE_API_KEY=" in (ROOT / ".env.example").read_text().splitlines()


def test_the_key_may_be_in_a_file() -> None:
    assert [call.name for call in evaluate(KEY, (".env",)).calls].count("dotenv") == 1
    assert not evaluate(KEY).of("dotenv")


def test_another_agent_is_refused() -> None:
    with pytest.raises(Refused, match="choose weather-agent or sample"):
        evaluate(KEY, agent="foo")
