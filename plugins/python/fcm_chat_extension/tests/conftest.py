"""The modules of the extension, and its stubs, which `generate.sh` writes beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
