#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# build.sh PREFIX COMPILER BOOST-FLAG: builds and runs the program of a project that has neither CMake
# nor a package manager, with what pkg-config says of the tidegate in PREFIX.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
config=$(find "$1" -name tidegate.pc)
export PKG_CONFIG_PATH="${config%/*}"

for package in tidegate tidegate-compiled tidegate-redis; do
  pkg-config --exists "$package" || continue # not built
  # shellcheck disable=SC2046
  "$2" -std=c++20 "$3" "$here/../guarded.cpp" $(pkg-config --cflags --libs "$package") -o "./$package"
  LD_LIBRARY_PATH="$(pkg-config --variable=libdir "$package")" "./$package"
done
pkg-config --exists "tidegate >= 0.1"
