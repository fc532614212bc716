#!/bin/sh
# Makes the bundled hisplat-small-fast out of hisplat-small, and measures it beside it:
#   sh benchmarks/compression/small_fast.sh RUN_DIR PHOTOS [OPTIONS of hisplat compress]
# Goes on where it stopped. PHOTOS are posed folders that quality is measured on, never trained on.
set -eu
run=$1 photos=$2
shift 2
python -m hisplat_app compress --model hisplat-small --method s2h --keep-flops 0.47 --out "$run" \
  --width 128 --height 96 --targets 2 --examples 200 --validation-examples 8 \
  --batch-size 1 --steps 90 --warmup-steps 10 --ema-decay 0.97 --mask-learning-rate 0.15 \
  --learning-rate 5e-4 --fixed backdrops colors \
  --evaluate-every 1000 --latency-size 192 256 --latency-repeats 3 \
  --evaluate-on "$photos" --evaluate-size 256 --threads 1 "$@"
train() {
  python -m hisplat_app train --run-dir "$1" --init "$2" --steps "$3" --learning-rate "$4" \
    --seed "$5" --examples 600 --width 192 --height 128 --targets 2 --batch-size 2 \
    --warmup-steps 15 --ema-decay 0.98 --levels 0 0 1 --fixed colors backdrops \
    --half-size-steps 0.3 --threads 1 --cache "$run/cache_further"
}
train "$run/further_1" "$run/slim.safetensors" 300 1e-3 8
train "$run/further_2" "$run/further_1/averaged.safetensors" 350 2e-3 9
cp "$run/further_2/averaged.safetensors" models/hisplat_models/weights/hisplat-small-fast.safetensors
python -m benchmarks.compression.small_fast --data-dir "$photos"
