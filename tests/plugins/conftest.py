"""What builds in other languages is played only when it is asked for: `make test-plugins`."""

import os

LONG = ["test_templates.py", "test_guide.py"]
collect_ignore = [] if os.environ.get("PLUGIN_RUNS") else LONG
