"""The code that users read: blocks of the README and of docstrings, and the example DAGs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EXAMPLES = ROOT / "example_dags"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCSTRING_BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)


def readme_blocks(*languages: str) -> list[str]:
    """Return the code blocks of the README in some languages, in their order."""
    return [code for language, code in _BLOCK.findall(README.read_text("utf-8")) if language in languages]


def write_readme_dags(folder: Path) -> list[Path]:
    """Write each Python block of the README to a file of its own, as it stands, and return the files."""
    files = []
    for number, code in enumerate(readme_blocks("python"), 1):
        files.append(folder / f"readme_{number}.py")
        files[-1].write_text(code, "utf-8")
    return files


def documented_code() -> Iterator[tuple[str, str]]:
    """Yield all Python code that users read, each with where it stands."""
    for number, code in enumerate(readme_blocks("python"), 1):
        yield f"README.md, Python block {number}", code
    for file in sorted(EXAMPLES.glob("*.py")):
        yield file.name, file.read_text("utf-8")
    for file in sorted((ROOT / "airflow_provider_streamsets").rglob("*.py")):
        for number, (_, code) in enumerate(_DOCSTRING_BLOCK.findall(file.read_text("utf-8")), 1):
            yield f"{file.relative_to(ROOT)}, block {number}", textwrap.dedent(code)
