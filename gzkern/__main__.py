"""``python -m gzkern``."""

import sys

from .cli import main

sys.exit(main())
