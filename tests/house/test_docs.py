"""The pages of docs: what is linked exists, and every page has its place in the navigation."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from isthmus.cli.main import app
from isthmus.jobs.spec import JobSpec

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


def navigation(entries: list[object]) -> set[str]:
    found = set()
    for entry in entries:
        if isinstance(entry, str):
            found.add(entry)
        elif isinstance(entry, dict):
            for value in entry.values():
                found |= navigation(value) if isinstance(value, list) else {value}
    return found


def test_the_navigation_and_the_pages_agree():
    listed = navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert listed == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert missing == []


def verbs(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """Each verb of the command line, with its options."""
    found: dict[tuple[str, ...], set[str]] = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= verbs(command, (*path, name))
        elif not command.hidden:
            found[(*path, name)] = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return found


VERBS = verbs(typer.main.get_command(app))


def shown_commands(text: str) -> list[tuple[tuple[str, ...], set[str]]]:
    """Verb and options of each command line in a page's code."""
    code = re.findall(r"```sh\n(.*?)```|`((?:\S*/)?isthmus [^`]+)`", text, flags=re.DOTALL)
    lines = [line for block, inline in code for line in (block or inline).splitlines()]
    found = []
    for line in lines:
        words = re.sub(r"#.*", "", line).split()
        if words and words[0].split("/")[-1] == "isthmus":
            length = max((n for n in (1, 2) if tuple(words[1 : 1 + n]) in VERBS), default=0)
            options = {word.split("=")[0] for word in words if word.startswith("--")}
            found.append((tuple(words[1 : 1 + length]), options))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_exist(page):
    for verb, options in shown_commands(page.read_text()):
        assert verb in VERBS or not options, (verb, options)
        assert options <= VERBS.get(verb, set()) | {"--help", "--version"}, (verb, options)


def said_commands(source: str) -> list[tuple[tuple[str, ...], set[str]]]:
    """Verb and options of each command line in a program's texts: examples and what errors say."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            texts.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    lines = [line for text in texts for line in re.findall(r"\bisthmus [^`;]*", text)]
    fenced = "\n".join(line.rstrip(".,: ") for text in lines for line in text.splitlines())
    return [found for found in shown_commands(f"```sh\n{fenced}\n```") if found[0]]


SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_commands_that_the_program_speaks_of_exist():
    for path in SOURCES:
        for verb, options in said_commands(path.read_text()):
            unknown = options - VERBS[verb] - {"--help", "--version"}
            assert not unknown, (path.name, verb, unknown)


def test_an_option_that_does_not_exist_is_seen_in_an_error():
    source = 'raise E("no", mend=f"then run: isthmus data get {name} --from FOLDER.")'
    assert (("data", "get"), {"--from"}) in said_commands(source)


def test_every_verb_is_shown_in_the_pages():
    shown = {verb for page in PAGES for verb, _ in shown_commands(page.read_text())}
    assert VERBS.keys() <= shown


def test_a_command_that_does_not_exist_is_seen():
    ((verb, options),) = shown_commands("```sh\nisthmus run job.yaml --nonsense # x\n```")
    assert not options <= VERBS[verb]
    assert shown_commands("`isthmus fly --high`") == [((), {"--high"})]


JOBS = [
    block
    for page in PAGES
    for block in re.findall(r"```yaml\n(isthmus: .*?)```", page.read_text(), flags=re.DOTALL)
]


def test_the_pages_show_a_job():
    assert JOBS


@pytest.mark.parametrize("job", JOBS)
def test_job_files_in_the_pages_are_valid(job):
    JobSpec.model_validate(yaml.safe_load(job))
