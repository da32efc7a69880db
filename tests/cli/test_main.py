"""How commands are found: by their names, each imported only when it is called."""

import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner

from services.cli import __main__ as cli


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`onward odd-things show NAME` stands in a module that knows nothing else."""
    module = ModuleType("things_of_a_test")

    def odd_things_show(name: str) -> None:
        print(f"shown: {name}")

    module.odd_things_show = odd_things_show  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    group = cli.Group("Things.", {"show": module.__name__, "lost": "no.such.module"})
    monkeypatch.setattr(cli, "GROUPS", {"odd-things": group})
    return module


def test_a_command_of_a_group_runs_alone(things: ModuleType) -> None:
    found = CliRunner().invoke(cli.app, ["odd-things", "show", "one"])
    assert (found.exit_code, found.output) == (0, "shown: one\n")


def test_a_word_that_no_group_knows_is_wrong_usage(things: ModuleType) -> None:
    found = CliRunner().invoke(cli.app, ["odd-things", "nope"])
    assert found.exit_code == 2
    assert "No such command 'nope'" in found.output


def test_a_group_is_listed_behind_the_commands(things: ModuleType) -> None:
    found = CliRunner().invoke(cli.app, ["--help"])
    assert found.exit_code == 0
    assert found.output.index("drain") < found.output.index("odd-things")


def test_every_command_can_be_found() -> None:
    names = [[name] for name in cli.COMMANDS]
    names += [[name, sub] for name, group in cli.GROUPS.items() for sub in group.commands]
    for words in names:
        found = CliRunner().invoke(cli.app, [*words, "--help"])
        assert found.exit_code == 0, (words, found.output)
