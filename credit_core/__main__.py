"""``python -m credit_core``: see :mod:`credit_core.cli`."""

import sys

from credit_core.cli import main

sys.exit(main())
