#!/usr/bin/env bash
# All that one device is asked, each part with a time limit of its own, so that nothing waits for what hangs; OUT/all.log has what all said:
#   bash test/bench/gpu/measure.sh cuda:0 OUT [FAMILIES] [options of the benchmark]
# FAMILIES holds hollow folders (test/bench/families/hollow.ts); '' where there are none. PyTorch is that of python3.
set -uo pipefail
device=$1 out=$2 families=${3:-}
shift 2
[ $# -gt 0 ] && shift
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
mkdir -p "$out"
logs=$(mktemp -d)
if [ -n "$families" ]; then
  there=$(node -p 'os.tmpdir()')/turbine-bench/families
  mkdir -p "$there" && cp -rn "$families"/. "$there"
fi

part() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  timeout -k 5 "$limit" "$@" > "$logs/$name" 2> "$logs/$name.err"
  local code=$?
  { echo "== $name: $*"; cat "$logs/$name" "$logs/$name.err"; } >> "$out/all.log"
  echo "== $name: ended with $code after $((SECONDS - begin)) s"
  if [ $code -eq 0 ]; then cut -c 1-400 "$logs/$name" | head -n 60; else tail -n 5 "$logs/$name.err"; fi
}
bench() { # NAME SECONDS OPTIONS...
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" node test/bench/main.ts gpu --device "$device" --python python3 --ids 20 "$@"
}

samples=infra/starter-model/samples
part samples-cpu 60 node processor/cli/main.ts caption $samples --device cpu --level 0 --out -
part samples-device 90 node processor/cli/main.ts caption $samples --device "$device" --level 0 --out -
said() { grep -o '"caption":"[^"]*"' "$logs/samples-$1"; }
[ -n "$(said device)" ] && [ "$(said cpu)" = "$(said device)" ] && echo "the samples' captions are those of the CPU"
# Each new batch size and level costs seconds once.
bench engine 170 --sizes base --batches 1,8,64,128 --parts engine "$@"
bench profile 60 --sizes base --batches 64 --parts '' --profile "$@"
bench fed 270 --sizes base --batches 64 --parts engine,pipeline,torch --fixed --rounds 3 "$@"
bench families 90 --sizes base --batches 1,8,32 --parts families "$@"
bench large 120 --sizes large --batches 8,64 --parts engine --rounds 3 "$@"
