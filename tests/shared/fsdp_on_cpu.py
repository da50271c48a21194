"""The command line, with FSDP2 by gloo: accelerate offers FSDP on accelerators only. Launched by test_processes.py."""

import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from vlreward.cli import main

usual = PartialState.__init__


def several_gpus(self: Any, *args: Any, **options: Any) -> None:
    usual(self, *args, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


PartialState.__init__ = several_gpus
sys.exit(main(sys.argv[1:]))
