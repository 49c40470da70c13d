#!/usr/bin/env bash
# What the power-loss test needs beside the packages of `make setup`: QEMU, e2fsprogs, and, unpacked into .stack/vm but
# not installed, Debian's kernel for virtual machines and a static busybox. Does nothing where they are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly VM=$PWD/.stack/vm

as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n -- "$@"; fi; }

if ! command -v qemu-system-x86_64 mkfs.ext4 >/dev/null; then
    echo "installing qemu-system-x86 and e2fsprogs"
    as_root apt-get -qq update
    as_root apt-get -qq install -y --no-install-recommends qemu-system-x86 e2fsprogs >/dev/null
fi
if [[ ! -e $VM/done ]]; then
    rm -rf "$VM"
    mkdir -p "$VM/debs"
    kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
    echo "fetching $kernel and busybox-static"
    (cd "$VM/debs" && apt-get -qq download "$kernel" busybox-static 2>/dev/null)
    for package in "$VM"/debs/*.deb; do dpkg-deb -x "$package" "$VM"; done
    rm -rf "$VM/debs"
    touch "$VM/done"
fi
