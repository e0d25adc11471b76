"""``python -m gzkern``."""

import sys

from .cli.main import main

sys.exit(main())
