#!/usr/bin/env bash
# Checks style and types and runs the default tests, making the environment first if needed. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
ruff check .
ruff format --check .
pyright
pytest "$@"
