#!/usr/bin/env bash
# Runs the tests: those without a window side by side, then the window's in two processes,
# each with a display of its own: two windows on one would take the keyboard from each
# other. Given arguments go to one plain pytest.
set -euo pipefail
python=$1
shift
# Tests start some hundred processes: what one has compiled the others need not.
unset PYTHONDONTWRITEBYTECODE
# Threads that spin while they wait take the cores from the tests beside.
export OMP_WAIT_POLICY=PASSIVE
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
# About half of the time that window tests take.
half=()
others=(tests/_qt)
for name in teach window_import window_export window_save; do
  half+=("tests/_qt/test_$name.py")
  others+=(--ignore "tests/_qt/test_$name.py")
done
told=$(mktemp)
trap 'kill "${beside:-}" 2>/dev/null || true; rm -f "$told"' EXIT
window "${half[@]}" >"$told" 2>&1 &
beside=$!
# xvfb-run finds a free number by looking: not two at the same moment.
sleep 3
first=0
window "${others[@]}" || first=$?
second=0
wait "$beside" || second=$?
cat "$told"
exit $((first > second ? first : second))
