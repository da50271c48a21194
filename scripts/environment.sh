# Source this: it brings .venv in the repository's root up to date, leaves the shell there, and puts .venv/bin first in PATH.
# Where it cannot go on it says why in one line and exits 2. Run again, it does nothing until constraints.txt or pyproject.toml change.

set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"
NEEDED_GB=9 # measured: 6.4 GB of packages, their archives while they are unpacked, and the runs
STAMP=.venv/up-to-date
LOG=

stop() {
  [ -z "$LOG" ] || rm -f "$LOG"
  echo "$(basename "$0"): $1" >&2
  exit 2
}

free_gb() { df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1048576) }'; }

room_gb() { # free disk and what a begun environment already takes
  local taken=0
  [ ! -d .venv ] || taken=$(du -sk .venv | awk '{ print int($1 / 1048576) }')
  echo $(($(free_gb) + taken))
}

as_root_install() { # packages; fails quietly where this is not root on Debian
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  echo "installing the Debian packages $*" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null 2>&1
}

find_python() { # the first Python that is new enough
  local name
  for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return 0
    fi
  done
  return 1
}

why_not() { # what an installer's log says went wrong, in a few words
  if [ "$(free_gb)" -lt 1 ] || grep -qiE 'no space left|disk quota' "$1"; then
    echo "the disk is full: $(free_gb) GB are free at $ROOT, about $NEEDED_GB GB are needed"
  elif grep -qiE 'connect|network|resolve|proxy|timed? ?out|dns|no matching distribution|could not find a version' "$1" &&
    ! grep -qiE 'no solution found' "$1"; then
    echo "Python packages cannot be downloaded; is there a network, and does pip reach its package index?"
  else
    echo "installing Python packages failed: $(grep -iE 'error|×|because' "$1" | tail -n 1 | cut -c 1-200)"
  fi
}

fingerprint() { cat constraints.txt pyproject.toml <(pwd) | sha256sum | cut -d ' ' -f 1; } # pwd: scripts in .venv name their place

make_environment() {
  local python
  [ -f constraints.txt ] || stop "constraints.txt is missing from $ROOT; is this a whole checkout?"
  if [ -x .venv/bin/python ] && [ "$(cat $STAMP 2>/dev/null)" = "$(fingerprint)" ] && .venv/bin/python -c 'import sys' 2>/dev/null; then
    return
  fi
  find_python >/dev/null || as_root_install python3 python3-venv || true
  python=$(find_python) || stop "Python 3.11 or newer is needed; found $(python3 --version 2>/dev/null || echo no python3) (set PYTHON to another one)"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    as_root_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" || as_root_install python3-venv || true
    "$python" -c 'import ensurepip, venv' 2>/dev/null || stop "$python has no venv module; install it as root: apt-get install python3-venv"
  fi
  [ "$(room_gb)" -ge "$NEEDED_GB" ] || stop "about $NEEDED_GB GB of free disk are needed at $ROOT, $(free_gb) GB are there"
  LOG=$(mktemp)
  echo "making the environment in $ROOT/.venv (some minutes the first time)" >&2
  if ! .venv/bin/python -c 'import pip' 2>/dev/null || [ "$(.venv/bin/python -c 'import sys; print(sys.prefix)')" != "$ROOT/.venv" ]; then
    rm -rf .venv
    "$python" -m venv .venv >"$LOG" 2>&1 || stop "$(why_not "$LOG")"
  fi
  rm -f $STAMP
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20 --upgrade uv >"$LOG" 2>&1 || stop "$(why_not "$LOG")"
  if [ -t 2 ]; then
    script -qefc "$(printf '%q ' "${INSTALL[@]}")" "$LOG" >&2 || stop "$(why_not "$LOG")"
  else
    "${INSTALL[@]}" >"$LOG" 2>&1 || stop "$(why_not "$LOG")"
  fi
  fingerprint >$STAMP
  rm -f "$LOG"
}

INSTALL=(.venv/bin/python -m uv pip install --python .venv/bin/python -c constraints.txt -e ".[dev]")
make_environment
export PATH="$ROOT/.venv/bin:$PATH"
