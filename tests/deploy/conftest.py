"""What takes long is played only when it is asked for: `make deploy-runs`."""

import os

LONG = ["test_images.py", "test_postgres.py", "test_chart.py"]
collect_ignore = [] if os.environ.get("DEPLOY_RUNS") else LONG
