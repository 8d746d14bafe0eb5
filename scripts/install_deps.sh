#!/usr/bin/env bash
# Installs the Debian packages that comet needs and that are missing. Tested on Debian 12.
#   scripts/install_deps.sh build     compiler, libraries and what fetching the default model takes
#   scripts/install_deps.sh test      the above, and what the tests take
#   scripts/install_deps.sh runtime   shared libraries of a built comet only
set -euo pipefail

runtime_packages=(
  ca-certificates curl libgrpc++1.51 libpcre2-8-0 libprometheus-cpp-core1.0 libprotobuf32
  libspdlog1.10 libssl3
)
build_packages=(
  "${runtime_packages[@]}"
  ccache cmake g++ libboost1.81-dev libcli11-dev libfmt-dev libgrpc++-dev libpcre2-dev
  libprotobuf-dev libspdlog-dev libssl-dev ninja-build nlohmann-json3-dev pkg-config
  prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc python3 python3-pip python3-venv unzip
)
test_packages=("${build_packages[@]}" clang clang-format git libgtest-dev)

case "${1:-build}" in
  runtime) packages=("${runtime_packages[@]}") ;;
  build) packages=("${build_packages[@]}") ;;
  test) packages=("${test_packages[@]}") ;;
  *) echo "usage: $0 [build|test|runtime]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install_deps: run this as root, or install sudo; missing: ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "install_deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"
