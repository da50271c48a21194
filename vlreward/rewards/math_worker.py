"""Compares formulas with math-verify, one line of JSON in, one out. Run as a program, so that an expression that never ends can be killed.

In: {"wanted": [...], "answer": ..., "seconds": ...} in LaTeX without delimiters. Out: "equal", "different", "unreadable" (the answer),
"reference" (no wanted one is readable) or "late".
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from typing import Any

MEMORY = 4 << 30


def main() -> None:
    """Answer line by line until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import math_verify

    logging.disable(logging.CRITICAL)
    # What is slow once, imports and the first parse, is over before the parent's clock starts.
    verdict(math_verify, ["0.5"], r"\frac{1}{2}", 60)
    print('"ready"', flush=True)
    for line in sys.stdin:
        print(json.dumps(verdict(math_verify, **json.loads(line))), flush=True)


def verdict(library: Any, wanted: list[str], answer: str, seconds: int) -> str:
    """One comparison; whatever the library raises makes the answer unreadable."""
    from math_verify.errors import TimeoutException

    configuration = [library.LatexExtractionConfig()]

    def read(latex: str) -> list:
        return library.parse(f"${latex}$", configuration, fallback_mode="no_fallback", parsing_timeout=seconds, raise_on_error=True)

    try:
        golden = [found for found in map(read, wanted) if found]
    except Exception:
        golden = []
    if not golden:
        return "reference"
    try:
        given = read(answer)
        if not given:
            return "unreadable"
        equal = any(library.verify(gold, given, timeout_seconds=seconds, raise_on_error=True) for gold in golden)
        return "equal" if equal else "different"
    except TimeoutException:
        return "late"
    except Exception:
        return "unreadable"


if __name__ == "__main__":
    main()
