#!/bin/sh
# Makes the bundled hisplat-small-fast out of hisplat-small, and its card:
#   sh benchmarks/compression/small_fast.sh RUN_DIR PHOTOS [OPTIONS of hisplat compress]
# Goes on where it stopped. PHOTOS are posed folders that quality is measured on, never trained on.
set -eu
run=$1 photos=$2
shift 2
python -m hisplat_app compress --model hisplat-small --method s2h --keep-flops 0.40 --out "$run" \
  --width 128 --height 96 --targets 2 --examples 200 --validation-examples 8 \
  --batch-size 1 --steps 90 --warmup-steps 10 --ema-decay 0.97 --mask-learning-rate 0.15 \
  --learning-rate 5e-4 --fixed backdrops colors \
  --evaluate-every 1000 --latency-size 192 256 --latency-repeats 3 \
  --evaluate-on "$photos" --evaluate-size 256 --threads 1 "$@"
weights=models/hisplat_models/weights
cp "$run/slim.safetensors" $weights/hisplat-small-fast.safetensors
cp "$run/slim.md" $weights/hisplat-small-fast.md
