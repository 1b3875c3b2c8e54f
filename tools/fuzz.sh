#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# fuzz.sh [SECONDS [TARGET...]]: lets libFuzzer look for inputs that break what tests/fuzz/*.cpp require,
# so long for each target (60 s), under AddressSanitizer and UndefinedBehaviorSanitizer. It goes on from
# what earlier runs left in build/fuzz/found/. With --keep, adds to tests/fuzz/corpus what reaches new code.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/tools/dependencies.sh"
cd "$here"
keep=""
if [ "${1:-}" = --keep ]; then keep=yes; shift; fi
seconds=${1:-60}
[ $# = 0 ] || shift

need sanitize
if command -v ccache >/dev/null; then
  export TIDEGATE_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR="$here" CCACHE_NOHASHDIR=1
fi
mkdir -p build
cmake --preset fuzz >build/fuzz.log || { cat build/fuzz.log >&2; exit 1; }
mapfile -t known < <(cmake --build --preset fuzz --target help | sed -n 's/^fuzz_\([a-z_]*\): phony$/\1/p' | sort)
if [ $# = 0 ]; then targets=("${known[@]}"); else targets=("$@"); fi
for target in "${targets[@]}"; do
  [[ " ${known[*]} " == *" $target "* ]] || fail "no target '$target', but ${known[*]}"
done
cmake --build --preset fuzz --parallel "${TIDEGATE_JOBS:-$(nproc)}" --target "${targets[@]/#/fuzz_}"

results=build/fuzz/found
failed=()
for target in "${targets[@]}"; do
  say "fuzzing $target for $seconds s"
  program=build/fuzz/tests/fuzz/fuzz_$target
  kept=tests/fuzz/corpus/$target
  found=$results/$target
  log=$results/$target.log
  mkdir -p "$kept" "$found"
  # What breaks it is left beside the corpus: to be mended, then kept as a regression test.
  if "$program" -max_total_time="$seconds" -max_len=2048 -timeout=20 \
    -artifact_prefix="$results/$target-" "$found" "$kept" >"$log" 2>&1; then
    grep -E '^Done ' "$log"
  else
    tail -n 40 "$log" >&2
    failed+=("$target")
  fi
  [ -z "$keep" ] || "$program" -merge=1 -max_len=2048 "$kept" "$found" >>"$log" 2>&1
done
[ ${#failed[@]} = 0 ] || fail "broken: ${failed[*]}; the inputs are in $results/"
say "all of ${targets[*]} hold"
