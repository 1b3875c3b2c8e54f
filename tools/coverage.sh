#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# coverage.sh [TEST...]: which lines of include/tidegate the unit tests run, by clang's own counters.
# Prints a line a file and the lines that nothing ran. When all tests ran, fails below 95 %. With
# tests/untested_lines.txt (see coverage.py) each line has its reason, and one without fails, too.
# With names of test programs (test_core ...), runs those only.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/tools/dependencies.sh"
cd "$here"
build=build/coverage
jobs=${TIDEGATE_JOBS:-$(nproc)}

need sanitize
if command -v ccache >/dev/null; then launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
mkdir -p build
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_COMPILER=clang++-19 ${launcher:+"$launcher"} \
  "-DCMAKE_CXX_FLAGS=-fprofile-instr-generate -fcoverage-mapping -O0" -DTIDEGATE_COMPILED=ON -DTIDEGATE_REDIS=ON -DTIDEGATE_EXAMPLES=OFF -DTIDEGATE_INSTALL=OFF \
  "-DCMAKE_PREFIX_PATH=$here/.deps/boost/usr;$here/.deps/catch2/usr" >build/coverage.log ||
  { cat build/coverage.log >&2; exit 1; }
if [ $# -gt 0 ]; then names=("$@"); else
  # Guards against blocking calls put functions of their own before those that write the counters.
  mapfile -t names < <(cmake --build "$build" --target help | sed -n 's/^\(test_[a-z_]*\): phony$/\1/p' |
    grep -vE '^test_(blocking_guard|core_without_rtti)$')
fi
cmake --build "$build" --parallel "$jobs" --target "${names[@]}"

rm -rf "$build/programs"
mkdir "$build/programs"
for name in "${names[@]}"; do
  say "running $name"
  LLVM_PROFILE_FILE="$build/$name.profraw" "$build/tests/$name" >"$build/$name.txt" ||
    { tail -n 30 "$build/$name.txt" >&2; fail "$name failed"; }
  llvm-profdata-19 merge -sparse "$build/$name.profraw" -o "$build/$name.profdata"
  llvm-cov-19 export --instr-profile="$build/$name.profdata" "$build/tests/$name" --sources "$here/include/tidegate" \
    >"$build/programs/$name.json" 2>"$build/llvm-cov.log"
done
goal=(95)
if [ -e tests/untested_lines.txt ]; then goal+=(tests/untested_lines.txt); fi
if [ $# -gt 0 ]; then goal=(0); fi
python3 tools/coverage.py "$build/programs" "$here/include/tidegate" "${goal[@]}"
