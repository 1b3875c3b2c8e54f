#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# compare.sh REV SCENARIO...: the working tree beside a revision. Both builds of each scenario run in
# turns, so that a neighbour's load hits both; then callgrind counts the instructions of the hot paths.
# Without scenarios, only the instructions: these need no quiet machine.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/tools/dependencies.sh"
cd "$here"
[ $# -gt 0 ] || fail "usage: ./dev bench compare REV [SCENARIO...]"
revision=$(git rev-parse --verify --quiet "$1^{commit}") || fail "no revision '$1'"
shift
folder=build/compare
old="$folder/$revision"
rounds=${TIDEGATE_COMPARE_ROUNDS:-3}

need bench
[ "${TIDEGATE_DEPENDENCIES:-}" = installed ] || install_packages valgrind python3 git
if [ ! -d "$old" ]; then
  mkdir -p "$old"
  git archive "$revision" | tar -x -C "$old"
fi
ln -sfn "$here/.deps" "$old/.deps"

# hot_paths INCLUDE OUT: this tree's program on that tree's library.
hot_paths() {
  g++ -std=c++20 -O2 -DNDEBUG -w "-I$1" -isystem .deps/boost/usr/include benchmarks/instructions/hot_paths.cpp \
    -pthread -o "$2"
}

for scenario in "$@"; do
  say "building $scenario, of ${revision:0:10} and of the working tree"
  for tree in "$old" .; do
    (cd "$tree" && cmake --preset bench >/dev/null && cmake --build --preset bench --target "bench_$scenario")
  done
done
rm -rf "$folder"/{old,new}
for ((round = 1; round <= rounds && $# > 0; ++round)); do
  for scenario in "$@"; do
    say "$scenario, round $round of $rounds"
    "$old/build/bench/benchmarks/bench_$scenario" --quick --out "$folder/old/$round" >/dev/null
    "build/bench/benchmarks/bench_$scenario" --quick --out "$folder/new/$round" >/dev/null
  done
done
[ $# = 0 ] || python3 tools/compare.py times "$folder/old" "$folder/new"
say "counting instructions"
hot_paths "$old/include" "$folder/hot_paths-old"
hot_paths include "$folder/hot_paths-new"
python3 tools/compare.py instructions "$folder/hot_paths-old" "$folder/hot_paths-new"
