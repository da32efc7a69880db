"""What takes long is played only when it is asked for: `make deploy-runs`. The chart needs helm."""

import os
from pathlib import Path

TOOLS = Path(os.environ.get("DEPLOY_TOOLS") or Path(__file__).parents[2] / "build/tools")
LONG = ["test_images.py", "test_postgres.py", "test_chart.py"]
collect_ignore = [] if os.environ.get("DEPLOY_RUNS") else LONG
if not (TOOLS / "bin/helm").exists():
    collect_ignore = [*collect_ignore, "test_chart.py"]
