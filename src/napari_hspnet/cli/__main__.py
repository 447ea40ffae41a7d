"""``python -m napari_hspnet.cli``, where the command is not on the path."""

import sys

from napari_hspnet.cli.app import main

sys.exit(main())
