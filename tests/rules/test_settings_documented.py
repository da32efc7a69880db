"""Every setting stands in docs/settings.md, as the code has it."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_settings_page_is_what_the_code_gives() -> None:
    """If not: `make settings`."""
    path = ROOT / "docs/generate_settings.py"
    spec = importlib.util.spec_from_file_location("generate_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs/settings.md").read_text() == module.page()
