"""``python -m posewatch.cli`` is the ``posewatch`` command."""

import sys

from posewatch.cli.main import main

sys.exit(main())
