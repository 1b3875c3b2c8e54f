#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# Installs what a build needs and nothing else. Sourced by ./dev; also runs alone:
#   tools/dependencies.sh library|demo|test|sanitize|bench|lint|docs|matrix ...
#
# What this Debian has in the right version is installed with apt. What only a newer Debian has
# (Boost; on Debian 12 also Catch2 and ONNX Runtime) is fetched with apt's own signature checks
# through private lists and unpacked into .deps/: the machine's sources and libraries stay as they
# are. When everything is there, nothing is done.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps="$root/.deps"
stamps="$deps/stamps"

boost_version=1.88
# Beside it, for ./dev matrix: the oldest that the library takes, and the newest that Debian has.
oldest_boost=1.83
newest_boost=1.92
catch_version=3.7
onnxruntime_version=1.21.0
declare -A onnxruntime_sha256=(
  [x64]=05bfddeefc536a44478c20226218dae8853995518bb2a994b4fa15a996f5f412
  [arm64]=36671b53885a8433882c4db360138bd060f3580f7d7cb6578050e755e83b6128
)

say() { printf 'dev: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "installing packages needs root: run '$*' as root, then try again"; fi
}

# shellcheck source=/dev/null
debian_release() { ( . /etc/os-release && [ "${ID:-}" = debian ] && echo "${VERSION_ID:-13}" ) 2>/dev/null; }

require_debian() {
  command -v apt-get >/dev/null && debian_release >/dev/null && return
  fail "only Debian's packages are installed for you. On this system, install these CMake packages:
     the library: Boost >= 1.83 (headers); tests: Catch2 >= 3.4, fmt, zstd and liburing; benchmarks: benchmark, TBB,
     RocksDB, LevelDB, prometheus-cpp and concurrentqueue;
     examples/vision: OpenCV >= 4.5 (core imgproc imgcodecs videoio), onnxruntime >= 1.17, fmt, CLI11,
     spdlog, uriparser.
     Conan and vcpkg have them all. Then 'cmake -B build && cmake --build build' works, and so does
     this script with TIDEGATE_DEPENDENCIES=installed in the environment."
}

# Packages of this Debian itself, for one purpose.
packages_for() {
  local build="g++ cmake ninja-build"
  local vision="libfmt-dev libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev libopencv-videoio-dev libcli11-dev libspdlog-dev liburiparser-dev"
  local catch=""
  if [ "$(debian_release)" != 12 ]; then
    vision+=" libonnxruntime-dev"
    catch="catch2"
  fi
  case $1 in
    library) echo "$build" ;;
    demo) echo "$build python3 libssl-dev $vision" ;;
    test) echo "$build ccache $vision $catch pkg-config libsqlite3-dev libzstd-dev liburing-dev libssl-dev redis-server python3-prometheus-client python3-jsonschema" ;;
    sanitize) echo "$build ccache python3 libfmt-dev liburiparser-dev libsqlite3-dev libzstd-dev liburing-dev libssl-dev redis-server $catch clang-19 libclang-rt-19-dev llvm-19" ;;
    bench) echo "$build ccache $vision libbenchmark-dev libtbb-dev libconcurrentqueue-dev librocksdb-dev libleveldb-dev prometheus-cpp-dev libssl-dev redis-server" ;;
    lint) echo "$build ccache clang-format-19 clang-tidy-19 shellcheck libclang-19-dev libclang-cpp19-dev llvm-19-dev python3 python3-jsonschema libsqlite3-dev libzstd-dev libssl-dev" ;;
    docs) echo "doxygen mkdocs mkdocs-material python3" ;;
    matrix) packages_for sanitize ;;
    *) fail "unknown set of dependencies '$1'" ;;
  esac
}

install_packages() {
  local missing package
  mapfile -t missing < <(comm -13 \
    <(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | awk '$2 == "installed" { print $1 }' | sort -u) \
    <(printf '%s\n' "$@" | sort -u))
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  for package in "${missing[@]}"; do
    apt-cache show "$package" >/dev/null 2>&1 || { as_root apt-get update -q >&2; break; }
  done
  for package in "${missing[@]}"; do
    apt-cache show "$package" >/dev/null 2>&1 || fail "this Debian has no package '$package'"
  done
  apt_install "${missing[@]}" || { as_root apt-get update -q >&2 && apt_install "${missing[@]}"; } ||
    fail "apt could not install: ${missing[*]}"
}

# --no-remove: what the machine has stays.
apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends --no-remove "$@" </dev/null >&2
}

# apt with its own sources, lists and cache; verified with the keys of the machine's Debian.
private_apt() {
  local tool=$1; shift
  "$tool" -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$deps/apt/sources" \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State="$deps/apt/state" -o Dir::State::status="$deps/apt/status" \
    -o Dir::Cache="$deps/apt/cache" -o Acquire::Languages=none \
    -o APT::Sandbox::User="$(id -un)" "$@" </dev/null
}

# The mirrors that this machine already trusts for Debian itself.
# shellcheck disable=SC2016
debian_mirrors() {
  apt-get indextargets --format '$(REPO_URI) $(SUITE) $(ORIGIN)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 !~ /security/ && $2 !~ /security/ && $3 == "Debian" { print $1 }' | sort -u
}

# prepare_private_apt RELEASE: reads its package lists, unless they are here.
prepare_private_apt() {
  local mirror sources=debian stamp="$stamps/apt" suites=trixie keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  if [ "$(debian_release)" = 12 ]; then suites="trixie bookworm-backports"; fi
  if [[ " $suites " != *" $1 "* ]]; then suites=$1 sources=$1 stamp+="-$1"; fi
  [ -e "$stamp" ] && return
  [ -r "$keyring" ] || fail "missing $keyring (package debian-archive-keyring)"
  [ -n "$(debian_mirrors)" ] || as_root apt-get update -q >&2
  mirror=$(debian_mirrors | head -n 1)
  [ -n "$mirror" ] || fail "found no Debian mirror in apt's sources"
  mkdir -p "$deps/apt"/{sources,state/lists/partial,cache/archives/partial}
  : >"$deps/apt/status"
  printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
    "$mirror" "$suites" "$keyring" >"$deps/apt/sources/$sources.sources"
  say "reading the package lists of Debian $suites (kept in .deps/)"
  private_apt apt-get update >&2 || fail "could not read the package lists of Debian $suites"
  touch "$stamp"
}

# download RELEASE PACKAGE UPSTREAM-VERSION: the .deb, into .deps/download.
download() {
  local release=$1 package=$2 version=$3 found
  prepare_private_apt "$release"
  found=$(private_apt apt-cache madison "$package" |
    awk -F'|' -v v="$version" -v r="$release/" '{ gsub(/ /, "", $2) } index($2, v) == 1 && index($3, r) { print $2; exit }')
  [ -n "$found" ] || { say "Debian $release has no $package $version"; return 1; }
  say "fetching $package $found"
  rm -rf "$deps/download"
  mkdir -p "$deps/download"
  (cd "$deps/download" && private_apt apt-get download "$package=$found" >&2)
}

# unpack NAME RELEASE PACKAGE UPSTREAM-VERSION: the package's files, below .deps/NAME.
unpack() {
  local name=$1 stamp="$stamps/$1-$4"; shift
  [ -e "$stamp" ] && return
  if ! download "$@"; then  # the lists may be older than the mirror
    rm -f "$stamps"/apt*
    download "$@" || fail "could not fetch $2 $3 from Debian $1"
  fi
  rm -rf "${deps:?}/$name" "$deps/$name.part"
  dpkg-deb -x "$deps/download/$2"_*.deb "$deps/$name.part"
  mv "$deps/$name.part" "$deps/$name"
  rm -rf "$deps/download"
  touch "$stamp"
}

# The library as Microsoft builds it, for an older glibc than Debian 13's, out of the npm package.
onnxruntime_library() {
  local stamp="$stamps/onnxruntime-library-$onnxruntime_version" arch library
  [ -e "$stamp" ] && return
  case $(uname -m) in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) fail "no ONNX Runtime library for $(uname -m); install onnxruntime >= 1.17 yourself" ;;
  esac
  command -v npm >/dev/null || install_packages npm
  say "fetching onnxruntime-node $onnxruntime_version (80 MB)"
  rm -rf "$deps/download"
  mkdir -p "$deps/download" "$deps/onnxruntime/lib"
  library="package/bin/napi-v3/linux/$arch/libonnxruntime.so.1"
  (
    cd "$deps/download"
    npm pack --loglevel=error "onnxruntime-node@$onnxruntime_version" >/dev/null &&
      tar -xzf "onnxruntime-node-$onnxruntime_version.tgz" "$library" &&
      echo "${onnxruntime_sha256[$arch]}  $library" | sha256sum --quiet --check >&2
  ) || fail "could not fetch or verify onnxruntime-node $onnxruntime_version for linux/$arch"
  install -m 644 "$deps/download/$library" "$deps/onnxruntime/lib/"
  ln -sf libonnxruntime.so.1 "$deps/onnxruntime/lib/libonnxruntime.so"
  rm -rf "$deps/download"
  touch "$stamp"
}

need_one() {
  # shellcheck disable=SC2046
  install_packages $(packages_for "$1")
  case $1 in
    matrix)
      unpack "boost-$oldest_boost" trixie "libboost$oldest_boost-dev" "$oldest_boost"
      unpack "boost-$newest_boost" forky "libboost$newest_boost-dev" "$newest_boost"
      ;;&
    library | demo | test | bench | sanitize | lint | matrix) unpack boost trixie "libboost$boost_version-dev" "$boost_version" ;;
  esac
  case $1 in
    lint) unpack boost-examples trixie "libboost$boost_version-doc" "$boost_version" ;;
  esac
  [ "$(debian_release)" = 12 ] || return 0
  case $1 in
    test | sanitize | matrix) unpack catch2 bookworm-backports libcatch2-dev "$catch_version" ;;
  esac
  case $1 in
    demo | test | bench)
      unpack onnxruntime-headers trixie libonnxruntime-dev "$onnxruntime_version"
      onnxruntime_library
      ;;
  esac
}

# need SET...: everything for these purposes.
need() {
  [ "${TIDEGATE_DEPENDENCIES:-}" = installed ] && return
  require_debian
  mkdir -p "$stamps"
  local set
  ( flock 9; for set in "$@"; do need_one "$set"; done ) 9>"$deps/lock"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then need "$@"; fi
