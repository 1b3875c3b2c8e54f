#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# pkg_config.sh NAME COMPILER BOOST-FLAG: builds and runs a program with what pkg-config says of NAME.
set -eu
here=$(dirname "$0")
libdir=$(pkg-config --variable=libdir "$1")
# shellcheck disable=SC2046
"$2" -std=c++20 "$3" "$here/bounded.cpp" $(pkg-config --cflags --libs "$1") -o "./pkg-config-$1"
LD_LIBRARY_PATH="$libdir" "./pkg-config-$1"
