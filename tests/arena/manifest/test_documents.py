"""A manifest's documents: several kinds in one file or folder, and errors that name file, document and place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from testbench.arena.manifest.documents import load_documents, validate_manifest
from testbench.arena.manifest.resources import AgentRuntime, Secret
from testbench.errors import InputError, NothingToDo
from testbench.schema import plain_data as yaml_files
from testbench.schema.plain_data import read_documents

OMNIA = "apiVersion: omnia.altairalabs.ai/v1alpha1"
JOB = f"{OMNIA}\nkind: ArenaJob\nmetadata: {{name: job}}\nspec: {{sourceRef: {{name: s}}}}\n"
PROVIDER = f"""{OMNIA}
kind: Provider
metadata: {{name: gpt, namespace: shared}}
spec:
  type: openai
  model: gpt-4o
  baseURL: http://gateway/v1
  headers: null
  somethingOfTheirs: [1, 2]
  credential: {{secretRef: {{name: keys, key: OPENAI}}}}
  defaults: {{temperature: "0.2"}}
  pricing: {{inputCostPer1K: "0.0025"}}
"""
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {A: plain}\ndata: {B: c2VjcmV0, C: '!'}\n"


def write(folder: Path, text: str, name: str = "job.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_one_file_holds_the_job_and_what_it_refers_to(tmp_path: Path) -> None:
    other = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
    documents = load_documents(write(tmp_path, "---\n".join([JOB, PROVIDER, SECRET, other])))
    assert documents.job().metadata.name == "job"
    provider = documents.providers.named("shared/gpt", "default")
    assert provider is not None
    assert documents.providers.named("gpt", "default") is None
    assert provider.spec.base_url == "http://gateway/v1"
    assert provider.spec.defaults.temperature == 0.2
    assert provider.spec.pricing is not None
    assert provider.spec.pricing.input_cost_per1k == 0.0025
    assert len(documents.others) == 1
    assert "Service" in documents.others[0]


def test_a_folder_is_read_as_one_and_what_is_no_resource_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, JOB)
    write(tmp_path, PROVIDER, "provider.yml")
    write(tmp_path, json.dumps({"scenarios": []}), "experiment.json")
    write(tmp_path, "kind: [", ".hidden.yaml")
    documents = load_documents(tmp_path)
    assert list(documents.providers) == ["shared/gpt"]
    assert documents.job("default/job") is documents.job("job")


def test_a_document_without_a_namespace_is_in_that_of_the_job(tmp_path: Path) -> None:
    in_arena = JOB.replace("{name: job}", "{name: job, namespace: arena}")
    documents = load_documents(write(tmp_path, "---\n".join([SECRET, in_arena, PROVIDER])))
    assert (list(documents.secrets), list(documents.providers)) == (["arena/keys"], ["shared/gpt"])


def test_items_of_a_list_are_documents_too(tmp_path: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    path = write(tmp_path, json.dumps({"apiVersion": "v1", "kind": "List", "items": [secret]}), "list.json")
    assert list(load_documents(path).secrets) == ["default/keys"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{JOB}---\n{JOB}", "document 2: ArenaJob default/job is there twice"),
        (f"{PROVIDER}---\n{JOB.replace('sourceRef', 'sourceref')}", "document 2: ArenaJob job: spec.sourceRef"),
        (JOB.replace("v1alpha1", "v1beta1"), "ArenaJob of omnia.altairalabs.ai/v1beta1 is not known"),
        ("name: x\n", "apiVersion or kind is missing"),
        ("apiVersion: {}\nkind: Secret\n", "apiVersion or kind is missing"),
        (f"{JOB}kind: ArenaJob\n", "key 'kind' is given twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [id]\n", "not valid YAML"),
        ("a: !!binary aGk=\n", "not plain data"),
        ("a: .nan\n", "is not a number"),
        ("1: x\n", "is not a text"),
        ("? [a]\n: x\n", "not valid YAML"),
        ("a: &x [*x]\n", "nested deeper"),
    ],
)
def test_an_error_names_file_document_and_place(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_documents(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_small_file_cannot_grow_by_its_anchors() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InputError, match="more than"):
        read_documents("\n".join(lines).encode(), "bomb.yaml")


MERGES = ["a0: &a0 {k: 1, l: 1, m: 1}"] + [
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)
]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(MERGES),
        f"a: &a {{{', '.join(f'k{n}: 1' for n in range(900))}}}\nb:\n" + "- {<<: *a}\n" * 50,
        "- {a: 1}\n" * 12_000,
    ],
    ids=["in each other", "often", "long"],
)
def test_a_file_is_refused_before_it_has_grown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = 0
    flatten = yaml.SafeLoader.flatten_mapping

    def counted(loader: yaml.SafeLoader, node: yaml.MappingNode) -> None:
        nonlocal built
        flatten(loader, node)
        built += len(node.value)

    monkeypatch.setattr(yaml.constructor.SafeConstructor, "flatten_mapping", counted)
    monkeypatch.setattr(yaml_files, "MAX_NODES", 10_000)
    with pytest.raises(InputError, match="more than 10000 values"):
        read_documents(text.encode(), "bomb.yaml")
    assert built <= 11_000


def test_a_mapping_that_overrides_what_it_merged_can_be_merged_itself() -> None:
    text = b"base: &base {x: 1}\na:\n  inner: &mid {<<: *base, x: 2}\ntop: {<<: *mid, y: 3}\nself: &s {<<: *s, z: 1}\n"
    (document,) = read_documents(text, "m.yaml")
    assert document.content["top"] == {"x": 2, "y": 3}
    assert document.content["a"]["inner"] == {"x": 2}


@pytest.mark.parametrize("text", ['{"a": ["\\ud800"]}', '{"\\udfff": 1}'])
def test_half_a_character_is_no_text(text: str) -> None:
    with pytest.raises(InputError, match="is not a text"):
        read_documents(text.encode(), "s.json")
    assert read_documents(b'{"a": "\\ud83d\\ude00"}', "s.json")[0].content == {"a": "\U0001f600"}


@pytest.mark.parametrize("deep", ["[" * 200_000, "a: {" * 50_000, "- " * 100_000, "[" * 66 + "]" * 66])
@pytest.mark.parametrize("name", ["deep.yaml", "deep.json"])
def test_a_deep_document_is_bad_input_and_does_not_end_the_process(deep: str, name: str) -> None:
    with pytest.raises(InputError):
        read_documents(deep.encode(), name)


def test_a_merged_mapping_is_no_key_that_is_there_twice() -> None:
    (document,) = read_documents(b"base: &b {a: 1}\nother:\n  <<: *b\n  a: 2\n", "m.yaml")
    assert document.content["other"] == {"a": 2}


def test_a_key_twice_among_many_is_found_without_counting_all_again_and_again() -> None:
    many = ", ".join(f'"k{number}": 1' for number in range(60_000))
    with pytest.raises(InputError, match="'last' is given twice"):
        read_documents(f'{{{many}, "last": 1, "last": 2}}'.encode(), "m.json")


def test_a_key_twice_in_json_is_an_error_too() -> None:
    with pytest.raises(InputError, match="'a' is given twice"):
        read_documents(b'{"a": 1, "a": 2}', "m.json")


def test_several_jobs_need_a_name(tmp_path: Path) -> None:
    second = JOB.replace("name: job", "name: other")
    documents = load_documents(write(tmp_path, f"{JOB}---\n{second}"))
    assert documents.job("other").metadata.name == "other"
    with pytest.raises(InputError, match="several jobs") as caught:
        documents.job()
    assert "default/job, default/other" in caught.value.hint
    with pytest.raises(InputError, match="no job is called 'third'"):
        documents.job("third")


def test_no_job_is_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo):
        load_documents(write(tmp_path, PROVIDER)).job()


def test_a_secret_has_values_and_never_shows_them(tmp_path: Path) -> None:
    secret = load_documents(write(tmp_path, SECRET)).secrets["default/keys"]
    assert (secret.value("A"), secret.value("B"), secret.value("C"), secret.value("D")) == (
        "plain",
        "secret",
        None,
        None,
    )
    shown = f"{secret!r} {secret} {secret.model_dump()} {secret.model_dump_json()}"
    assert "plain" not in shown
    assert "c2VjcmV0" not in shown
    assert secret.keys == ("A", "B", "C")


def test_a_secret_with_a_fault_does_not_show_its_values_either(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_documents(write(tmp_path, SECRET.replace("{A: plain}", "{A: [hunter2]}")))
    chain = [caught.value, caught.value.__cause__]
    assert "hunter2" not in " ".join(map(repr, chain))
    with pytest.raises(ValueError, match="stringData") as fault:
        Secret.model_validate({"metadata": {"name": "k"}, "stringData": {"A": ["hunter2"]}})
    assert "hunter2" not in str(fault.value)


@pytest.mark.parametrize(
    ("status", "spec", "endpoint"),
    [
        ({"a2a": {"endpoint": "http://a/"}, "serviceEndpoint": "s:1"}, {}, ("a2a", "http://a/")),
        (
            {
                "facade": {
                    "endpoints": [{"protocol": "websocket", "url": "ws://w"}, {"protocol": "a2a", "url": "http://f"}]
                }
            },
            {},
            ("a2a", "http://f"),
        ),
        (
            {
                "facade": {"endpoints": [{"protocol": "a2a", "url": "http://f", "valid": False}]},
                "serviceEndpoint": "s:1",
            },
            {},
            ("a2a", "http://s:1"),
        ),
        ({"facade": {"endpoints": [{"protocol": "websocket", "url": "ws://w"}]}}, {}, ("websocket", "ws://w")),
        (
            {"serviceEndpoint": "s:1"},
            {"facade": {"type": "websocket"}},
            ("websocket", "ws://s:1/ws?agent=bot&namespace=default"),
        ),
        ({"phase": "Pending"}, {}, None),
        (None, {}, None),
    ],
)
def test_an_agent_is_reached_over_a2a_before_anything_else(
    status: object, spec: object, endpoint: tuple[str, str] | None
) -> None:
    agent = validate_manifest(AgentRuntime, {"metadata": {"name": "bot"}, "spec": spec, "status": status})
    assert agent.endpoint() == endpoint
