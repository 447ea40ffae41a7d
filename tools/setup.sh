#!/usr/bin/env bash
# Sets up the virtual environment, and as root on Debian the system packages
# that a window needs. Called by the Makefile; run again only when its inputs
# change.
set -euo pipefail
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

# What Qt and OpenGL need on a bare Debian 12, and a virtual display for tests.
packages=(xvfb xauth libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1
  libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0)

"$PYTHON" - <<'PY' || { echo "setup: Python 3.11 to 3.13 is needed; say which: make PYTHON=python3.11" >&2; exit 2; }
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PY

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok' || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "setup: installing system packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
elif ! command -v Xvfb >/dev/null && [ "$(uname)" = Linux ]; then
  echo "setup: no root, so no system packages are installed; window tests need: ${packages[*]}"
fi

if [ ! -x "$VENV/bin/python" ]; then
  echo "setup: creating $VENV"
  "$PYTHON" -m venv "$VENV" || {
    echo "setup: this Python cannot make a virtual environment; on Debian install python3-venv" >&2
    exit 2
  }
fi
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

echo "setup: installing pinned Python packages (about 2 GB, a few minutes the first time)"
# torch first and both pins at once: resolved by itself torchvision would pull
# another torch. TORCH_INDEX_URL chooses a build (CPU, CUDA) where one is wanted.
torch=$(grep -E '^torch==' constraints.txt)
vision=$(grep -E '^torchvision==' constraints.txt)
pip install -q -c constraints.txt ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$torch"
pip install -q -c constraints.txt ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} "$torch" "$vision"
pip install -q -c constraints.txt -e '.[all,bench,test,dev]'
echo "setup: done"
