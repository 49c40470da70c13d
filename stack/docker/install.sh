#!/usr/bin/env bash
# A Docker engine for machines that have none: Debian's packages, unpacked into .stack/docker and not installed, and a
# small Debian for images to stand on. Does nothing where they are there. Needs root.
#
#   install.sh                       the engine, and a Debian of this machine's architecture
#   install.sh emulation             Debian's qemu-user-static, which runs other architectures' programs
#   install.sh rootfs ARCHITECTURE   a Debian of another one, where this kernel runs its programs
#
# dockerd, containerd and runc are this release's; Compose and buildx, which it does not have, are the next one's.
set -euo pipefail
# shellcheck source=stack/bootstrap.sh
source "$(dirname "${BASH_SOURCE[0]}")/../bootstrap.sh"
readonly DOCKER=$STACK/docker NEXT_SUITE=trixie
readonly ENGINE=(docker.io containerd runc tini iptables libip6tc2 libnfnetlink0 libnetfilter-conntrack3 libnftnl11
    slirp4netns libslirp0)
readonly PLUGINS=(docker-compose docker-buildx)
readonly ROOTFS=(python3 python3-venv python3-pip ca-certificates)

unpack() { for package in "$1"/*.deb; do dpkg-deb -x "$package" "$2"; done; }

install_engine() {
    rm -rf "$DOCKER/root" "$DOCKER/debs"
    mkdir -p "$DOCKER/root" "$DOCKER/debs" "$DOCKER/config/cli-plugins"
    (cd "$DOCKER/debs" && apt-get -q -o APT::Sandbox::User= download "${ENGINE[@]}")
    private_apt "$DOCKER/apt" "deb $(signed_by) $(debian_mirror) $NEXT_SUITE main"
    apt-get -q "${APT_PRIVATE[@]}" -o APT::Update::Error-Mode=any update
    (cd "$DOCKER/debs" && apt-get -q "${APT_PRIVATE[@]}" download "${PLUGINS[@]}")
    unpack "$DOCKER/debs" "$DOCKER/root"
    rm -rf "$DOCKER/debs" "$DOCKER/apt"
    # What the packages' own scripts would do.
    for name in iptables ip6tables; do ln -sf "$name-nft" "$DOCKER/root/usr/sbin/$name"; done
    ln -sf "$DOCKER"/root/usr/libexec/docker/cli-plugins/* "$DOCKER/config/cli-plugins/"
}

install_packages_of() {
    command -v "$1" >/dev/null && return 0
    unlocked apt-get -q update
    unlocked apt-get -q -y --no-install-recommends install "${@:2}"
}

# install_rootfs FILE ARCHITECTURE
install_rootfs() {
    [[ -e $DOCKER/$1 ]] && return 0
    install_packages_of mmdebstrap mmdebstrap
    mkdir -p "$DOCKER"
    # Made in /tmp: it drops to a user who cannot enter a checkout below /root.
    local made
    made=$(mktemp -d)
    local IFS=,
    (cd /tmp && mmdebstrap --quiet --variant=minbase --architectures="$2" --include="${ROOTFS[*]}" \
        "$(os_field VERSION_CODENAME)" "$made/rootfs.tar" "$(debian_mirror)")
    mv "$made/rootfs.tar" "$DOCKER/$1"
    rmdir "$made"
}

case ${1:-} in
    '')
        [[ -e $DOCKER/root/usr/sbin/dockerd && -e $DOCKER/config/cli-plugins/docker-compose ]] || install_engine
        install_rootfs rootfs.tar "$(dpkg --print-architecture)"
        ;;
    emulation)
        install_packages_of arch-test arch-test
        install_packages_of qemu-arm-static qemu-user-static
        ;;
    rootfs) install_rootfs "rootfs-$2.tar" "$2" ;;
esac
