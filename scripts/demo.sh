#!/usr/bin/env bash
# The main job on shipped tiny models: score pairs, train a VLM, align a generator, and one report of the three.
# Run again it goes on where it stopped, or only shows the report; `demo.sh --fresh` starts anew.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
case "${1:-}" in
  "") mode=--resume ;;
  --fresh) mode=--fresh ;;
  *) stop "unknown argument '$1'; the only one is --fresh" ;;
esac
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
demo=runs/demo
mkdir -p $demo || stop "cannot write to $ROOT/$demo"
rm -f $demo/report.html $demo/summary.json # an earlier demo's, so that none is taken for this one's if it stops

echo "1 of 3: score pictures against words" >&2
vlreward score configs/score/tiny_demo.yaml $mode run.folder=$demo run.name=score
echo "2 of 3: train a vision-language model" >&2
vlreward train-vlm configs/vlm/tiny_grounding.yaml $mode run.folder=$demo run.name=vlm
echo "3 of 3: align a text-to-image model" >&2
vlreward align configs/align/tiny_objects.yaml $mode run.folder=$demo run.name=flow
vlreward report $demo/score $demo/vlm $demo/flow --out $demo/report.html >/dev/null
python scripts/demo_summary.py $demo
echo "$ROOT/$demo/report.html"
