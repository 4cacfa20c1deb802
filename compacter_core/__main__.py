"""`python -m compacter_core` is `compacter`."""

import sys

from compacter_core.cli.main import main

sys.exit(main())
