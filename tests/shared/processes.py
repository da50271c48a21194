"""Runs in two processes on the CPU, and what the shipped launch files tell processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from vlreward.config import resolved
from vlreward.run import RunFolder

PLAIN = ("-m", "vlreward.cli")
SHARDED = (str(Path(__file__).parent / "fsdp_on_cpu.py"),)
"""The program that divides weights on a CPU."""
SEVERAL = (str(Path(__file__).parent / "one_after_another.py"),)


def in_two_processes(
    command: str, config: Any, tmp_path: Path, program: Sequence[str] = PLAIN,
    environment: Mapping[str, str] = MappingProxyType({}), more: Sequence[str] = (),
) -> tuple[RunFolder, subprocess.CompletedProcess]:  # fmt: skip
    """The same run once more, launched in two processes on the CPU."""
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(resolved(config)))
    done = launch([*program, command, str(file), "run.name=two", *more], environment)
    return RunFolder(tmp_path / "two", config.run), done


def each_in_two_processes(command: str, configs: Mapping[str, Any], tmp_path: Path) -> dict[str, RunFolder]:
    """Several runs, by name, each once more as `two-<name>`, in one launch of two processes on the CPU."""
    files = []
    for name, config in configs.items():
        files.append(tmp_path / f"two-{name}.yaml")
        files[-1].write_text(yaml.safe_dump(resolved(replace(config, run=replace(config.run, name=files[-1].stem)))))
    launch([*SEVERAL, command, *map(str, files)], {})
    return {name: RunFolder(file.with_suffix(""), config.run) for (name, config), file in zip(configs.items(), files, strict=True)}


def launch(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess:
    """A program in two processes on the CPU."""
    paths = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments],
        capture_output=True, text=True, timeout=280, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return done


def launched(name: str) -> tuple[Any, dict[str, str]]:
    """The options of `accelerate launch --config_file`, and what it tells the processes."""
    args = launch_command_parser().parse_args(["--config_file", f"configs/accelerate/{name}.yaml", "program"])
    args, _, _ = _validate_launch_command(args)
    args.deepspeed_fields_from_accelerate_config = ""
    made = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    return args, {name: value for name, value in made.items() if os.environ.get(name) != value}
