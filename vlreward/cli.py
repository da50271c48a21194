"""The command line. Each command's code is imported only when it runs, so `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

EXAMPLES = """\
examples:
  vlreward score configs/score/tiny_demo.yaml                 score pictures against captions
  vlreward score my.yaml data.path=pairs.jsonl keep.at_least=0.6
  vlreward train-vlm configs/vlm/tiny_grounding.yaml           train a VLM by GRPO on box IoU
  vlreward align configs/align/tiny_objects.yaml optim.steps=8 align a text-to-image model
  vlreward align configs/align/tiny_objects.yaml --resume      go on after an interruption
  vlreward train-critic configs/critic/tiny_scalar.yaml        train a reward model on comparisons
  vlreward eval configs/vlm/tiny_grounding.yaml                only the held-out evaluation
  vlreward bench configs/bench/tiny_pairs.yaml                 how well critics agree with people on benchmarks
  vlreward report runs/tiny-objects                            write the run's report again
  vlreward list rewards                                        all rewards: needs, range, source
  vlreward list rewards box_iou                                what a reward measures and how it is cheated

A dotted key=value overrides the configuration. Exit code: 0 done, 2 your input (one line says what), 1 our fault.
"""
RUNNERS = {
    "score": "score pictures against words: scores.jsonl, the kept subset, a report",
    "train-vlm": "train a vision-language model against rewards (GRPO on TRL)",
    "align": "align a text-to-image flow model against rewards",
    "train-critic": "train a reward model on comparisons of attempts",
    "eval": "only the held-out evaluation of a train-vlm, align or train-critic configuration",
    "bench": "critics (rewards of any kind) over benchmarks of preferences, with their published metrics",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="vlreward",
        description="One reward stack for vision and language.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in RUNNERS.items():
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("config", help="a YAML file; the shipped ones are in configs/")
        command.add_argument(
            "overrides", nargs="*", default=(), metavar="key=value", help="dotted overrides, e.g. run.seed=3 rewards.0.weight=2"
        )
        command.add_argument("--resume", action="store_true", help="go on with the run folder if it exists")
        command.add_argument("--fresh", action="store_true", help="replace the run folder if it exists")
    report = commands.add_parser("report", help="write report.html of a run, or one page for several runs")
    report.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    report.add_argument("--out", help="the page to write (default: report.html in the run folder)")
    listing = commands.add_parser("list", help="what parts there are: rewards, advantages, objectives, generators, sources ...")
    listing.add_argument("family", nargs="?", help="a family of parts; without it, all families")
    listing.add_argument("name", nargs="?", help="a part: its whole description, its keys and an example")
    listing.add_argument("--json", action="store_true", help="the same for programs")
    return top


def _arguments(top: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parsed so that flags may stand anywhere among the overrides."""
    options, rest = top.parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or not hasattr(options, "overrides")]
    if strange:
        top.error(f"unrecognized arguments: {' '.join(strange)}")
    if hasattr(options, "overrides"):
        options.overrides = [*options.overrides, *rest]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _arguments(parser(), arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from vlreward.errors import UserError, refused

    try:
        return _run(options)
    except UserError as error:
        print(f"vlreward: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vlreward: stopped; add --resume to the same command to go on", file=sys.stderr)
        return 130
    except Exception as error:
        if (reason := refused(error)) is None:
            raise
        print(f"vlreward: {reason}; when that is mended, --resume goes on from what was saved", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if options.command == "list":
        from vlreward.listing import main as listing

        return listing(options.family, options.name, options.json)
    if options.command == "report":
        from vlreward.report.build import main as report

        return report(options.runs, options.out)
    if options.command == "score":
        from vlreward.score import main as run
    else:
        from vlreward import commands

        run = {
            "train-vlm": commands.train_vlm,
            "align": commands.align,
            "train-critic": commands.train_critic,
            "eval": commands.evaluate,
            "bench": commands.bench,
        }[options.command]
    return run(options.config, options.overrides, options.resume, options.fresh)


if __name__ == "__main__":
    sys.exit(main())
