"""The docs point to what exists: links, anchors, flags, paths, ports, and pages that the map knows."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

import testbench
from testbench.cli.reference import commands
from tests.support.docs_pages import PAGES, ROOT, anchors, blocks, links, prose

DOCS = ROOT / "docs"
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
INLINE = re.compile(r"`(--[^`\n]+|[a-z]+\.py --[^`\n]+)`")
SCRIPT = re.compile(r"testbench/([a-z_/]+)\.py((?:[^\n`|;&]|\\\n)*)")
TYPED = re.compile(r"(?:^|run |\$ )testbench ([a-z]+)((?:[^\n`|;&]|\\\n)*)", re.MULTILINE)
PATH = re.compile(
    r"(?<![\w./-])((?:testbench|tests|tests_e2e|deploy|docs|benchmarks|\.github|\.ci)/[\w./-]*\w\.(?:py|md|yaml|yml|json|csv)"
    r"|Tiltfile|Makefile|Dockerfile|action\.yml|\.env\.example)(?![\w/-])"
)
RUN_WORKFLOW = re.compile(r"testkube run testworkflow ([\w-]+)([^\n`]*)")
OTHERS = {"--agent", "--config", "--quick", "--validate"}
"""Flags of other programs that stand alone: of the Tiltfile, Testkube's CLI, the benchmarks, and kubectl."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def flags_of(command: click.Command) -> set[str]:
    return {"--help", "-h", *(flag for found in command.params for flag in (*found.opts, *found.secondary_opts))}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_and_anchor_resolves(page: Path) -> None:
    text = page.read_text()
    broken = set()
    for link in links(text):
        if re.match("[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.add(link)
    assert broken == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_flag_that_stands_alone_is_ours(page: Path) -> None:
    ours = {flag for _, command in commands() for flag in flags_of(command)}
    flags = {flag for code in INLINE.findall(prose(page.read_text())) for flag in FLAG.findall(code)}
    assert flags - ours - OTHERS == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_script_is_called_with_flags_of_its_own(page: Path) -> None:
    known: dict[str, set[str]] = {}
    for words, command in commands():
        known.setdefault(words.split()[1], set()).update(flags_of(command))
    for block in blocks(page.read_text()):
        for name, arguments in SCRIPT.findall(block.text) + TYPED.findall(block.text):
            if name in known:
                assert set(FLAG.findall(arguments)) <= known[name], (name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_path_exists(page: Path) -> None:
    missing = {path for path in PATH.findall(page.read_text()) if not (ROOT / path).exists()}
    assert missing == set()


def test_the_map_leads_to_every_page() -> None:
    page = DOCS / "README.md"
    linked = {named((DOCS / link).resolve()) for link in links(page.read_text()) if ":" not in link}
    assert {named(path) for path in DOCS.rglob("*.md")} - linked - {named(page)} == set()


def test_every_mark_is_one_that_is_known() -> None:
    marks = {block.mark for page in PAGES for block in blocks(page.read_text()) if block.mark}
    assert {mark for mark in marks if not re.fullmatch(r"run|run: exit \d+|output|file: [\w./-]+", mark)} == set()


def test_the_workflows_of_the_docs_exist_with_their_parameters() -> None:
    resources = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "deploy/local").glob("*-workflow.yaml"))]
    workflows = {found["metadata"]["name"]: found["spec"]["config"] for found in resources}
    calls = [call for page in PAGES for call in RUN_WORKFLOW.findall(page.read_text().replace("\\\n", " "))]
    assert calls
    for name, arguments in calls:
        if name != "NAME":
            assert set(re.findall(r"--config (\w+)=", arguments)) <= set(workflows[name]), (name, arguments)


def test_the_ports_of_the_tutorial_are_those_that_tilt_forwards() -> None:
    tutorial = (DOCS / "tutorial/first-workflow.md").read_text()
    forwarded = re.findall(r"'(\d+):\d+'", (ROOT / "Tiltfile").read_text())
    assert sorted(re.findall(r"^\| `http://localhost:(\d+)`", tutorial, re.MULTILINE)) == sorted(forwarded)


def test_what_the_tiltfile_says_is_quoted_as_it_says_it() -> None:
    quoted = re.findall(r"\*(GOOGLE_API_KEY [^*]+)\*", (DOCS / "how-to/troubleshooting.md").read_text())
    assert quoted
    assert all(text in (ROOT / "Tiltfile").read_text() for text in quoted)


def test_the_tutorial_shows_the_phases_of_the_workflow_in_order() -> None:
    workflow = yaml.safe_load((ROOT / "deploy/local/multi-turn-workflow.yaml").read_text())
    steps = [f"`{step['name']}`" for step in workflow["spec"]["steps"]]
    named = f"{', '.join(steps[:-1])} and {steps[-1]}"
    assert named in " ".join((DOCS / "tutorial/first-workflow.md").read_text().split())


def test_the_action_of_the_docs_has_the_inputs_that_they_give_it() -> None:
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    page = (DOCS / "how-to/ci.md").read_text()
    (workflow,) = (yaml.safe_load(block.text) for block in blocks(page) if "agentic-layer/testbench@" in block.text)
    (step,) = (step for step in workflow["jobs"]["evaluate"]["steps"] if "testbench" in step.get("uses", ""))
    assert step["uses"] == f"agentic-layer/testbench@v{testbench.__version__}"
    assert set(step["with"]) <= set(inputs)
    table = page.partition("| input |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)))) <= set(inputs)


def test_the_pipeline_files_of_the_docs_have_known_keys() -> None:
    known = {words.split()[1]: command for words, command in commands()}
    found = [block for page in PAGES for block in blocks(page.read_text()) if block.language == "yaml"]
    files = [yaml.safe_load(block.text) for block in found if "\ngate:" in block.text]
    assert len(files) > 3
    for document in files:
        for section, keys in document.items():
            if isinstance(keys, dict):
                assert set(keys) <= {found.name for found in known[section].params}, section
