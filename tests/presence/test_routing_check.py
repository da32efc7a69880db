"""The check of a routing file as a program of its own."""

import json

from services.presence.routing_check import check, main
from services.presence.yaml_lines import BYTES_MAX


def test_a_file_that_is_not_utf_8_is_told_with_its_line():
    told, taken = check(b"routes: []\n# caf\xe9\n", 60.0)
    assert not taken
    [problem] = told
    assert (problem["event"], problem["line"]) == ("problem", 2)
    assert "UTF-8" in problem["text"]


def test_every_problem_is_told_and_nothing_else(tmp_path, capsys):
    file = tmp_path / "routing.yaml"
    file.write_text("a: 1\nroutes: 5\n")
    assert main(str(file), "60") == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["event"], one["line"]) for one in told] == [("problem", 1), ("problem", 2)]


def test_of_a_file_without_end_the_first_part_is_read(tmp_path, capsys):
    file = tmp_path / "routing.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(50 * BYTES_MAX)
    assert main(str(file), "60") == 1
    assert "more than 1,048,576 bytes" in capsys.readouterr().out


def test_what_it_says_ends_with_what_was_checked():
    told, taken = check(b"defaults: {digest_s: 5}\n", 60.0)
    assert taken
    assert [one["event"] for one in told] == ["defaults", "checked"]
    assert (told[0]["digestS"], told[0]["collapseS"]) == (5.0, None)
