#!/usr/bin/env bash
# Runs the tests: those without a window side by side, then the window's alone, for a
# window that waits for a core tests nothing. Given arguments go to one plain pytest.
set -euo pipefail
python=$1
shift
if [ $# -gt 0 ]; then
  exec "$python" -m pytest "$@"
fi
cores=$("$python" -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)")
workers=$((cores < 8 ? cores : 8))
# One thread each: workers that share cores would only wait for each other.
OMP_NUM_THREADS=1 "$python" -m pytest --ignore tests/_qt -n "$workers" --dist loadfile
exec "$python" -m pytest tests/_qt
