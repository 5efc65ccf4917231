"""
Finds words that the project does not use, in identifiers, messages and documentation.

``python -m dev.vocabulary [PATH ...]`` checks files and folders, by default the whole project, and prints the number of
uses per word. ``vocabulary.txt`` is a codespell dictionary: each word with its replacements. A line that needs such a
word, for example to quote Airflow, has the comment ``codespell:ignore``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from codespell_lib import main as codespell

DICTIONARY = Path(__file__).with_name("vocabulary.txt")
# Generated files, and texts of others. Codespell itself skips hidden ones.
SKIPPED = ("*/_build", "*/build", "*/dist", "*.egg-info", "*.txt", "LICENSE")
# Phrases in which a word of the dictionary is standard.
ALLOWED = ("look up", "looked up", "looking up", "looks up", "of course")


def pattern(words: list[str]) -> str:
    """Return a regular expression for phrases and for the words of which an identifier is composed."""
    phrases = sorted((word for word in (*ALLOWED, *words) if not word.isalpha()), key=len, reverse=True)
    return rf"(?<![A-Za-z])(?i:{'|'.join(map(re.escape, phrases))})(?![a-z])|[A-Z]?[a-z]+|[A-Z]+"


def main(paths: list[str]) -> int:
    """Print all uses of words in the dictionary and return the exit code."""
    words = [line.partition("->")[0] for line in DICTIONARY.read_text("utf-8").splitlines()]
    options = ["--dictionary", str(DICTIONARY), "--regex", pattern(words), "--skip", ",".join(SKIPPED)]
    return int(codespell(*options, "--check-filenames", "--summary", *paths) != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["."]))
