#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# compare.sh REV [SCENARIO...]: the working tree beside a revision, as ratios of times with 95 % intervals.
# Both builds of each scenario run in turns, first the one, then the other, so that a neighbour's load hits
# both. `instructions` is a scenario, too: callgrind counts those of the hot paths, which needs no quiet
# machine. All scenarios if none is named, which takes an hour.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/tools/dependencies.sh"
cd "$here"
[ $# -gt 0 ] || fail "usage: ./dev bench compare REV [SCENARIO...|instructions]"
revision=$(git rev-parse --verify --quiet "$1^{commit}") || fail "no revision '$1'"
shift
folder=build/compare
old="$folder/$revision"
rounds=${TIDEGATE_COMPARE_ROUNDS:-4}

need bench
[ "${TIDEGATE_DEPENDENCIES:-}" = installed ] || install_packages valgrind python3 git
if [ ! -d "$old" ]; then
  mkdir -p "$old"
  git archive "$revision" | tar -x -C "$old"
fi
ln -sfn "$here/.deps" "$old/.deps"

# in_tree TREE COMMAND...
in_tree() { (cd "$1" && shift && "$@"); }

# measure TREE ROUND RESULTS
measure() {
  "$1/build/bench/benchmarks/bench_$scenario" --quick --out "$3/$2" >/dev/null
}

# hot_paths TREE OUT: this tree's program on that tree's library, or its own where that is too old.
hot_paths() {
  local source
  for source in benchmarks/instructions/hot_paths.cpp "$1/benchmarks/instructions/hot_paths.cpp"; do
    g++ -std=c++20 -O2 -DNDEBUG -w "-I$1/include" -isystem .deps/boost/usr/include "$source" -pthread -o "$2" \
      2>"$folder/hot_paths.log" && return
  done
  cat "$folder/hot_paths.log" >&2
  fail "hot_paths.cpp does not compile with the library in $1"
}

count_instructions() {
  say "counting instructions"
  hot_paths "$old" "$folder/hot_paths-old"
  hot_paths . "$folder/hot_paths-new"
  python3 tools/compare.py instructions "$folder/hot_paths-old" "$folder/hot_paths-new"
}

scenarios=()
count=""
for scenario in "$@"; do
  if [ "$scenario" = instructions ]; then count=yes; else scenarios+=("$scenario"); fi
done
if [ $# = 0 ]; then
  count=yes
  in_tree . cmake --preset bench >/dev/null
  mapfile -t scenarios < <(cmake --build --preset bench --target help | sed -n 's/^bench_\([a-z_]*\): phony$/\1/p')
fi

for scenario in "${scenarios[@]}"; do
  say "building $scenario, of ${revision:0:10} and of the working tree"
  for tree in "$old" .; do
    in_tree "$tree" cmake --preset bench >/dev/null
    in_tree "$tree" cmake --build --preset bench --target "bench_$scenario"
  done
done
rm -rf "$folder"/{old,new}
for ((round = 1; round <= rounds; ++round)); do
  for scenario in "${scenarios[@]}"; do
    say "$scenario, round $round of $rounds"
    if ((round % 2)); then measure "$old" $round "$folder/old"; fi
    measure . $round "$folder/new"
    if ((round % 2 == 0)); then measure "$old" $round "$folder/old"; fi
  done
done
[ ${#scenarios[@]} = 0 ] || python3 tools/compare.py times "$folder/old" "$folder/new"
[ -z "$count" ] || count_instructions
