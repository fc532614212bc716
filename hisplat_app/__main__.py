"""``python -m hisplat_app`` is ``hisplat``."""

import sys

from .cli import main

sys.exit(main())
