"""The code cites the wire contract, and the contract names the code: both name what exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from airflow_provider_streamsets.sandbox.backend.variants import Variants

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_provider_streamsets"
CONTRACT = ROOT / "docs" / "reference" / "control-hub-api.md"
TEXT = CONTRACT.read_text("utf-8")

_NUMBER = r"\d+(?:\.\d+)?"
# A reference can continue on the next line of a docstring or comment.
_GAP = r"\s+(?:#:?\s+)?"
_JOIN = rf"(?:,(?:{_GAP}(?:and|or))?|{_GAP}(?:and|or|to)){_GAP}"
_REFERENCE = re.compile(rf"\bcontract,?{_GAP}(?:sections?{_GAP})?({_NUMBER}(?:{_JOIN}{_NUMBER})*)\b", re.IGNORECASE)
_MENTION = re.compile(r"\bcontract\b", re.IGNORECASE)
_HEADING = re.compile(rf"^#{{2,3}} (({_NUMBER})\b.*)$", re.MULTILINE)
_ANCHORED_HEADING = re.compile(rf'^<a id="contract-([\d-]+)"></a>\n\n#{{2,3}} ({_NUMBER})\b', re.MULTILINE)
_UNKNOWN = re.compile(r"^### (18\.\d+) .*\n((?:(?!^<a |^#).*\n?)*)", re.MULTILINE)
_FIELD = re.compile(r"^- \*\*(\w+):\*\* (.+)$", re.MULTILINE)

HEADINGS = {number: heading for heading, number in _HEADING.findall(TEXT)}
SECTIONS = [number for _, number in _HEADING.findall(TEXT)]
UNKNOWNS = {number: dict(_FIELD.findall(body)) for number, body in _UNKNOWN.findall(TEXT)}


def citing_files() -> Iterator[Path]:
    for folder in ("airflow_provider_streamsets", "tests", "dev", "example_dags"):
        yield from (file for file in sorted((ROOT / folder).rglob("*.py")) if file != Path(__file__).resolve())
    yield ROOT / "README.md"
    pages = (file for ending in ("md", "rst") for file in sorted((ROOT / "docs").rglob(f"*.{ending}")))
    yield from (page for page in pages if "_build" not in page.parts)


def citations(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the number of every section that a text cites."""
    for reference in _REFERENCE.finditer(text):
        line = text.count("\n", 0, reference.start()) + 1
        yield from ((line, number) for number in re.findall(_NUMBER, reference[1]))


def broken(text: str) -> list[tuple[int, str]]:
    return [(line, number) for line, number in citations(text) if number not in SECTIONS]


@cache
def symbols(file: Path) -> set[str]:
    """Return the names that a module and its classes define."""
    return set(_defined(ast.parse(file.read_text("utf-8")).body))


def _defined(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(node.body, f"{node.name}.")
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield prefix + target.id


def test_every_cited_section_exists():
    found = {str(file.relative_to(ROOT)): broken(file.read_text("utf-8")) for file in citing_files()}
    assert {file: places for file, places in found.items() if places} == {}


def test_package_cites_sections_by_number():
    vague = []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text("utf-8")
        numbered = {reference.start() for reference in _REFERENCE.finditer(text)}
        vague += [
            f"{file.relative_to(ROOT)}:{text.count(chr(10), 0, mention.start()) + 1}"
            for mention in _MENTION.finditer(text)
            if mention.start() not in numbered
        ]
    assert vague == []


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("(contract section 7)", ["7"]),
        ("(contract, section 10.3).", ["10.3"]),
        ("(contract, 18.22)", ["18.22"]),
        ("(contract sections 8 and 10.5)", ["8", "10.5"]),
        ("(contract sections 1.2, 8, and 15)", ["1.2", "8", "15"]),
        ("Contract section 18, which lists 40 gaps", ["18"]),
        ("(contract,\n            section 5)", ["5"]),
        ("contract section 7 2 times", ["7"]),
        ("# see contract\n    # section 10.5", ["10.5"]),
        ("tests/contract/test_1.py and a contract of 1999", []),
    ],
)
def test_citations_are_recognized(text, cited):
    assert [number for _, number in citations(text)] == cited


@pytest.mark.parametrize("number", ["0", "20", "10.9", "18.99", "7.1"])
def test_wrong_number_is_found(number):
    assert broken(f"first line\n(contract section {number})") == [(2, number)]
    assert broken(f"(contract sections 7 and {number})") == [(1, number)]


def test_sections_are_unique_and_anchored():
    assert len(SECTIONS) == len(set(SECTIONS))
    anchored = _ANCHORED_HEADING.findall(TEXT)
    assert [number for _, number in anchored] == SECTIONS
    assert [anchor for anchor, _ in anchored] == [number.replace(".", "-") for number in SECTIONS]


def test_links_between_sections_lead_to_the_section_they_name():
    links = re.findall(rf"\[(?:[Ss]ection )?({_NUMBER})\b[^\]]*\]\(#([^)]+)\)", TEXT)
    assert len(links) == TEXT.count("](#")
    # GitHub and MyST make the same anchors of headings.
    anchors = {number: re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for number, text in HEADINGS.items()}
    assert [link for link in links if anchors.get(link[0]) != link[1]] == []


def test_unknowns_have_all_fields():
    assert list(UNKNOWNS) == [number for number in SECTIONS if number.startswith("18.")]
    fields = ["Unknown", "Assumption", "Variant", "Code"]
    assert {number: list(found) for number, found in UNKNOWNS.items() if list(found) != fields} == {}


def test_unknowns_name_every_variant_with_its_values():
    described = {}
    for fields in UNKNOWNS.values():
        for variant in re.split(r"; (?=`)", fields["Variant"].rstrip(".")):
            name, *values = re.findall(r"`([^`]+)`", variant) or [None]
            if name is not None:
                described[name] = tuple(values)
    assert described == Variants.choices()


@pytest.mark.parametrize("number", UNKNOWNS)
def test_unknowns_name_code_that_exists(number):
    file, missing = None, []
    for name in re.findall(r"`([^`]+)`", UNKNOWNS[number]["Code"]):
        if name.endswith(".py"):
            file = PACKAGE / name
            missing += [] if file.is_file() else [name]
        elif file is None or (file.is_file() and name not in symbols(file)):
            missing.append(name)
    assert missing == []
