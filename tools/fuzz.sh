#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# fuzz.sh [SECONDS [TARGET...]]: lets libFuzzer look for inputs that break what tests/fuzz/*.cpp require,
# so long for each target (60 s), under AddressSanitizer and UndefinedBehaviorSanitizer. It goes on from
# what earlier runs left in build/fuzz/. With --keep, adds to tests/fuzz/corpus what reaches new code.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/tools/dependencies.sh"
cd "$here"
keep=""
if [ "${1:-}" = --keep ]; then keep=yes; shift; fi
seconds=${1:-60}
[ $# = 0 ] || shift
vision=examples/vision
compiler=${CXX:-clang++-19}

# What a target takes beside its own file.
parts_of() {
  case $1 in
    model_metadata) echo $vision/{model_metadata,python_literal}.cpp ;;
    decode) echo $vision/{model_metadata,python_literal,layout,decode}.cpp -lfmt ;;
    request_target) echo $vision/service/request_target.cpp -luriparser ;;
  esac
}

build() {
  local parts
  read -ra parts <<<"$(parts_of "$1")"
  "$compiler" -std=c++20 -O1 -g1 -w -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -Iinclude -Itests -I$vision -isystem .deps/boost/usr/include \
    "tests/fuzz/$1.cpp" "${parts[@]}" -o "build/fuzz/$1.program"
}

need sanitize
[ "${TIDEGATE_DEPENDENCIES:-}" = installed ] || install_packages liburiparser-dev
mkdir -p build/fuzz
if [ $# -gt 0 ]; then targets=("$@"); else
  mapfile -t targets < <(find tests/fuzz -name '*.cpp' ! -name replay.cpp -printf '%f\n' | sed 's/\.cpp$//' | sort)
fi
failed=()
for target in "${targets[@]}"; do
  [ -e "tests/fuzz/$target.cpp" ] || fail "no target '$target'"
  say "fuzzing $target for $seconds s"
  kept=tests/fuzz/corpus/$target
  found=build/fuzz/$target
  log=build/fuzz/$target.log
  mkdir -p "$kept" "$found"
  build "$target"
  # What breaks it is left beside the corpus: to be mended, then kept as a regression test.
  if "build/fuzz/$target.program" -max_total_time="$seconds" -max_len=2048 -timeout=20 \
    -artifact_prefix="build/fuzz/$target-" "$found" "$kept" >"$log" 2>&1; then
    grep -E '^Done ' "$log"
  else
    tail -n 40 "$log" >&2
    failed+=("$target")
  fi
  [ -z "$keep" ] || "build/fuzz/$target.program" -merge=1 -max_len=2048 "$kept" "$found" >>"$log" 2>&1
done
[ ${#failed[@]} = 0 ] || fail "broken: ${failed[*]}; the inputs are in build/fuzz/"
say "all of ${targets[*]} hold"
