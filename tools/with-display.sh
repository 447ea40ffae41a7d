#!/usr/bin/env bash
# Runs a command with a display: the one that is there, else a virtual one, else
# none (window tests are then skipped and say so).
set -euo pipefail
export QT_API=${QT_API:-pyqt6}
if [ -n "${HSPNET_USE_DISPLAY:-}" ] || ! command -v xvfb-run >/dev/null; then
  exec "$@"
fi
exec xvfb-run -a -s "-screen 0 1600x1100x24" "$@"
