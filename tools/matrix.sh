#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# The library with every Boost and compiler that docs/boost-versions.md promises. As ./dev matrix:
#   matrix.sh            compiles all public headers, and builds and runs the tests in $targets
#   matrix.sh --headers  compiles all public headers: a minute
#   matrix.sh --core     that, and with g++ the tests in $core with the oldest and the newest
#   matrix.sh BOOST      only that version
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/tools/dependencies.sh"
cd "$here"
jobs=${TIDEGATE_JOBS:-$(nproc)}
compilers=(g++ clang++-19)
boosts=("$oldest_boost" "$boost_version" "$newest_boost")
# The algorithms, the one waiting mechanism, and primitives that use each part of Asio.
targets=${TIDEGATE_MATRIX_TARGETS:-test_core test_compilers test_waiting test_semaphore test_channel test_policy}
core="test_core test_compilers test_waiting"

boost_folder() { if [ "$1" = "$boost_version" ]; then echo .deps/boost; else echo ".deps/boost-$1"; fi; }

# headers COMPILER BOOST: one source file with all of them, except the one that configures Asio. Newer
# versions of Boost.Redis deprecate what 1.88 has nothing instead of.
headers() {
  local redis='/redis/'
  [ "$2" = "$oldest_boost" ] || redis='^$' # Boost.Redis became usable with 1.88
  find include/tidegate -name '*.hpp' | grep -vE "/(impl|detail)/|/(fmt|zstd_codec|asio_tracking)\.hpp$|$redis" | sort |
    sed 's|^include/\(.*\)|#include <\1>|' |
    "$1" -std=c++20 -fsyntax-only -Wall -Wextra -Werror -Wno-deprecated-declarations -Iinclude -isystem "$(boost_folder "$2")/usr/include" -x c++ -
}

# cell COMPILER BOOST: headers and tests.
cell() {
  headers "$@" && tests "$@"
}

# tests COMPILER BOOST: builds and runs $targets.
tests() {
  local build="build/matrix/$1-boost-$2" wanted
  read -ra wanted <<<"$targets"
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_COMPILER=$1" \
    ${TIDEGATE_COMPILER_LAUNCHER:+"-DCMAKE_CXX_COMPILER_LAUNCHER=$TIDEGATE_COMPILER_LAUNCHER"} \
    "-DCMAKE_PREFIX_PATH=$here/$(boost_folder "$2")/usr;$here/.deps/catch2/usr" \
    -DTIDEGATE_EXAMPLES=OFF >"$build.log" || { cat "$build.log" >&2; return 1; }
  grep -q "^Boost_DIR:.*/$(boost_folder "$2")/" "$build/CMakeCache.txt" || { say "not built with Boost $2"; return 1; }
  cmake --build "$build" --parallel "$jobs" --target "${wanted[@]}" &&
    ctest --test-dir "$build" --output-on-failure --parallel "$jobs" -R "^(${targets// /|}):"
}

# core COMPILER BOOST: headers, and tests where a Boost of another age meets the compiler of the packages.
core() {
  headers "$@" || return 1
  [ "$1" != g++ ] || [ "$2" = "$boost_version" ] || tests "$@"
}

what=cell
case ${1:-} in
  --headers) what=headers ;;
  --core) what=core targets=$core ;;
  ?*) boosts=("$1") ;;
esac
need matrix
if command -v ccache >/dev/null; then export TIDEGATE_COMPILER_LAUNCHER=ccache; fi
mkdir -p build/matrix
failed=()
for boost in "${boosts[@]}"; do
  for compiler in "${compilers[@]}"; do
    say "$compiler, Boost $boost"
    "$what" "$compiler" "$boost" || failed+=("$compiler with Boost $boost")
  done
done
[ ${#failed[@]} = 0 ] || fail "failed: $(IFS=,; echo "${failed[*]}")"
say "all of ${compilers[*]} with Boost ${boosts[*]}: good"
