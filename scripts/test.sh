#!/usr/bin/env bash
# Checks style and types and runs the default tests, on up to four cores, making the environment first if needed. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
command -v bwrap >/dev/null || as_root_install bubblewrap ||
  echo "test.sh: bubblewrap is missing, so tests of the sandbox are skipped; install it as root: apt-get install bubblewrap" >&2
ruff check .
ruff format --check .
pyright
pytest --numprocesses logical --maxprocesses 4 --dist worksteal "$@"
