from __future__ import annotations

import pytest

pytest.importorskip("codespell_lib", reason="codespell is a tool of the main environment")

from dev.vocabulary import main


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("StatusLooks", ["Looks"]),  # codespell:ignore
        ("_MOST_RUNS = look_at(told)", ["MOST_", "look", "told"]),  # codespell:ignore
        ("The wait goes on with the job's run.", ["goes on"]),  # codespell:ignore
        ("Looks up the outlook of settlements and overlooks nothing, of course.", []),
        ("told  # codespell:ignore", []),
    ],
)
def test_words_are_found_in_identifiers_and_phrases(text, found, tmp_path, capsys):
    file = tmp_path / "module.py"
    file.write_text(text + "\n")
    assert main([str(file)]) == bool(found)
    hits = [line for line in capsys.readouterr().out.splitlines() if "==>" in line]
    assert [hit.partition(": ")[2].partition(" ==>")[0] for hit in hits] == found


def test_file_names_are_checked(tmp_path):
    (tmp_path / "glances.py").touch()  # codespell:ignore
    assert main([str(tmp_path)]) == 1
