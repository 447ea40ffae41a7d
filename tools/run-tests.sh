#!/usr/bin/env bash
# Runs the tests: those without a window side by side, then the window's, each process
# with a display of its own: two windows on one would take the keyboard from each other.
# Teaching waits for another process most of the time, so that the rest runs beside it.
# Given arguments go to one plain pytest.
set -euo pipefail
python=$1
shift
window() {
  bash tools/with-display.sh "$python" -m pytest "$@"
}
if [ $# -gt 0 ]; then
  window "$@"
  exit
fi
cores=$("$python" -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)")
workers=$((cores < 8 ? cores : 8))
# One thread each: workers that share cores would only wait for each other.
OMP_NUM_THREADS=1 window --ignore tests/_qt -n "$workers" --dist loadfile
if [ "$workers" -lt 2 ]; then
  window tests/_qt
  exit
fi
told=$(mktemp)
trap 'kill "${teaching:-}" 2>/dev/null || true; rm -f "$told"' EXIT
window tests/_qt/test_teach.py >"$told" 2>&1 &
teaching=$!
# xvfb-run finds a free number by looking: not two at the same moment.
sleep 3
others=0
window tests/_qt --ignore tests/_qt/test_teach.py || others=$?
taught=0
wait "$teaching" || taught=$?
cat "$told"
exit $((others > taught ? others : taught))
