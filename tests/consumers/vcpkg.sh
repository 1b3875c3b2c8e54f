#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# vcpkg.sh SOURCE FOLDER: checks the port with vcpkg's own formatter, then builds and runs the project
# in vcpkg/ by its manifest. Fetches what tidegate depends on, so it takes a network.
set -eu
command -v vcpkg >/dev/null || { echo "skipped: no vcpkg on the PATH"; exit 0; }

mkdir -p "$2"
for manifest in packaging/vcpkg/ports/tidegate tests/consumers/vcpkg; do
  cp "$1/$manifest/vcpkg.json" "$2/formatted.json"
  vcpkg format-manifest "$2/formatted.json"
  diff "$1/$manifest/vcpkg.json" "$2/formatted.json"
done
root=${VCPKG_ROOT:-$(dirname "$(realpath "$(command -v vcpkg)")")}
cmake -S "$1/tests/consumers/vcpkg" -B "$2/build" \
  "-DCMAKE_TOOLCHAIN_FILE=$root/scripts/buildsystems/vcpkg.cmake"
cmake --build "$2/build"
ctest --test-dir "$2/build" --output-on-failure
