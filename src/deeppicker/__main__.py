"""``python -m deeppicker``."""

import sys

from deeppicker.cli.main import main

sys.exit(main())
