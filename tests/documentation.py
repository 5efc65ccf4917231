"""The code that users read: blocks of README, documentation and docstrings, and the example DAGs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
EXAMPLES = ROOT / "example_dags"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCSTRING_BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)


def page_blocks(*languages: str) -> list[tuple[str, str]]:
    """Return the code blocks of README and documentation in some languages, each with its page, in their order."""
    return [
        (str(page.relative_to(ROOT)), code)
        for page in PAGES
        for language, code in _BLOCK.findall(page.read_text("utf-8"))
        if language in languages
    ]


def section(page: Path, heading: str) -> str:
    """Return the text of a section of a page."""
    return page.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]


def own_airflow_commands() -> list[str]:
    """Return the commands with which the README runs an example in an Airflow of the reader's own."""
    ((_, block),) = _BLOCK.findall(section(README, "With your own Airflow"))
    return [line.removeprefix("$ ") for line in block.splitlines()]


def is_test(code: str) -> bool:
    """Return whether a Python block is a file of tests instead of a DAG file."""
    return "\ndef test_" in code


def needs_other_tools(code: str) -> bool:
    """Return whether a Python block needs tools that are not installed here; see `tests/ecosystem/`."""
    return "dagfactory" in code or "airflow.providers.common.ai" in code


def write_dags(folder: Path) -> list[Path]:
    """Write each Python block that is a DAG file to a file of its own, as it stands, and return the files."""
    files = []
    for number, (_, code) in enumerate(page_blocks("python"), 1):
        if not is_test(code) and not needs_other_tools(code):
            files.append(folder / f"block_{number}.py")
            files[-1].write_text(code, "utf-8")
    return files


def documented_code() -> Iterator[tuple[str, str]]:
    """Yield all Python code that users read, each with where it stands."""
    for number, (page, code) in enumerate(page_blocks("python"), 1):
        yield f"{page}, Python block {number}", code
    for file in sorted(EXAMPLES.glob("*.py")):
        yield file.name, file.read_text("utf-8")
    for file in sorted((ROOT / "airflow_provider_streamsets").rglob("*.py")):
        for number, (_, code) in enumerate(_DOCSTRING_BLOCK.findall(file.read_text("utf-8")), 1):
            yield f"{file.relative_to(ROOT)}, block {number}", textwrap.dedent(code)
