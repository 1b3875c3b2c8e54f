#!/bin/sh
# SPDX-License-Identifier: BSL-1.0
# conan.sh SOURCE FOLDER BOOST-PREFIX: makes the Conan package and builds test_package/ with it, once
# as headers and once compiled, in a Conan home of its own. Boost is the one of the build, since there
# may be no remote.
set -eu
command -v conan >/dev/null || { echo "skipped: no conan on the PATH"; exit 0; }

export CONAN_HOME="$2/conan-home"
export CMAKE_PREFIX_PATH="$3" CPLUS_INCLUDE_PATH="$3/include"
mkdir -p "$2"
conan profile detect --force --name default >/dev/null
cat >"$2/platform" <<'PROFILE'
include(default)
[settings]
compiler.cppstd=20
[platform_requires]
boost/1.88.0
PROFILE
for header_only in True False; do
  conan create "$1" --profile:all "$2/platform" --no-remote -o "tidegate/*:header_only=$header_only"
done
