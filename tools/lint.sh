#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Checks what the compiler does not: formatting, house rules, shell scripts, clang-tidy.
# Reports everything it finds before it fails. --fix formats instead of complaining.
# Run it as ./dev lint, which installs the tools.
set -uo pipefail
shopt -s lastpipe
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

failures=0

# check NAME: fails when findings come in on standard input.
check() {
  local findings
  findings=$(cat)
  if [ -z "$findings" ]; then printf 'ok    %s\n' "$1"; return; fi
  printf 'FAIL  %s\n%s\n' "$1" "$findings"
  failures=$((failures + 1))
}

# newest TOOL: the name under which a version that understands our configuration is here.
newest() {
  local tool
  for tool in "$1-19" "$1"; do
    command -v "$tool" >/dev/null || continue
    [ "$("$tool" --version | grep -oE 'version [0-9]+' | cut -d' ' -f2)" -ge 16 ] && echo "$tool" && return
  done
}

files() { git ls-files -co --exclude-standard -- "$@" | while read -r file; do [ -e "$file" ] && echo "$file"; done; }
# found PATTERN PATH...: the lines of our files that match, also of files not added yet.
found() { local pattern=$1; shift; git grep -nIE --untracked "$pattern" -- "$@"; }

found 'include <boost/asio\.hpp>' include | check "no header includes all of Asio"
found 'include <(boost/asio|fmt)' include/tidegate/core | check "core/ includes neither Asio nor fmt"
found 'include <tidegate/[a-z]' include/tidegate/core |
  grep -vE '<tidegate/(core/|config\.hpp|version\.hpp)' | check "core/ includes only core/"
found 'include <fmt/' include ':!include/tidegate/fmt.hpp' | check "only fmt.hpp includes fmt"
found 'this_thread::sleep|usleep\(|[^_a-z]sleep\(' tests ':!tests/lint' | check "no test sleeps"
found '\b(TO[D]O|FIX[M]E|XX[X]|HAC[K])\b' . | check "nothing is left to do"
found 'using namespace (std|boost)\b' include src | check "no using namespace in the library"
found 'auto( const)?&* \[[^]]*\] = co_await' include examples src docs/snippets | check "no structured binding on co_await: docs/compilers.md"
files '*.hpp' '*.cpp' '*.ipp' '*.cmake' '*CMakeLists.txt' '*.sh' '*.py' dev .ci/run | while read -r file; do
  head -n 2 "$file" | grep -q 'SPDX-License-Identifier: BSL-1.0' || echo "$file"
done | check "every source file names its licence"
files include | grep '\.hpp$' | while read -r file; do
  grep -q '^#pragma once$' "$file" || echo "$file"
done | check "every header has #pragma once"
found '[[:blank:]]+$' '*.[chip]pp' '*.cmake' '*CMakeLists.txt' '*.sh' '*.md' dev | check "no trailing blanks"

python3 tools/snippets.py 2>&1 | check "pages show what is compiled"
files '*.md' | while read -r file; do
  # shellcheck disable=SC2016
  sed '/^ *```/,/^ *```$/d' "$file" | grep -oE '\]\([A-Za-z0-9_./-]+[)#]' |
    grep -oE '[A-Za-z0-9_./-]+' | while read -r target; do
    [ -e "$(dirname "$file")/$target" ] || echo "$file: no $target"
  done
  grep -oE '<tidegate/[a-z_/]+\.hpp>' "$file" | tr -d '<>' | while read -r header; do
    [ -e "include/$header" ] || echo "$file: no include/$header"
  done
done | check "documents link to what exists"

format=$(newest clang-format)
if [ -z "$format" ]; then
  echo "skip  formatting: needs clang-format 16 or newer"
elif [ "${1:-}" = --fix ]; then
  files '*.hpp' '*.cpp' '*.ipp' | xargs -r "$format" -i
  echo "ok    formatted with $format"
else
  files '*.hpp' '*.cpp' '*.ipp' | while read -r file; do
    "$format" --dry-run -Werror "$file" 2>/dev/null || echo "$file"
  done | check "formatting (./dev lint --fix formats with $format)"
fi

if command -v shellcheck >/dev/null; then
  { files '*.sh'; echo dev; echo .ci/run; } | xargs shellcheck -x -f gcc 2>&1 | check "shell scripts"
else
  echo "skip  shell scripts: needs shellcheck"
fi

tidy=$(newest clang-tidy)
if [ -n "$tidy" ]; then
  # One file that includes all public headers shows each of them once; the small programs instantiate.
  mkdir -p build/lint
  files 'include/tidegate/*.hpp' | grep -vE '/(impl|detail)/|/fmt\.hpp$' |
    sed 's|^include/\(.*\)|#include <\1>|' >build/lint/all_headers.cpp
  { echo build/lint/all_headers.cpp; files 'tests/consumers/*.cpp' ':(glob)examples/*.cpp' 'docs/snippets/*.cpp'; } |
    xargs -P "$(nproc 2>/dev/null || echo 2)" -I{} "$tidy" --quiet {} -- -std=c++20 -Iinclude -isystem .deps/boost/usr/include 2>/dev/null |
    grep -vE '^$' | check "clang-tidy ($tidy)"
else
  echo "skip  clang-tidy: needs clang-tidy 16 or newer"
fi

if [ "$failures" -gt 0 ]; then
  echo "$failures checks failed"
  exit 1
fi
echo "all checks passed"
