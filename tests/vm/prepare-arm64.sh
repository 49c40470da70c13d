#!/usr/bin/env bash
# A card's image of Debian 12 for arm64, made as Raspberry Pi OS makes its own: FAT with kernel, initramfs, cmdline.txt and
# cloud-init's seed, then ext4. Needs root, and ten minutes where qemu has to run arm64's programs; the image is kept in
# .stack/vm/arm64 and made again when this file changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source stack/bootstrap.sh # its functions: the mirror that this machine uses
readonly HERE=$STACK/vm/arm64
readonly MADE=$HERE/made-of LABEL=48570001 # "HW": PARTUUID of the root is that and -02
readonly BOOT_MIB=192 ROOT_MIB=1600
readonly PACKAGES=(linux-image-cloud-arm64 initramfs-tools systemd-sysv udev dbus netplan.io cloud-init openssh-server
    python3 ca-certificates kmod less)

tools() {
    local -a missing=()
    local pair
    for pair in mmdebstrap:mmdebstrap arch-test:arch-test qemu-aarch64-static:qemu-user-static qemu-system-aarch64:qemu-system-arm \
        mcopy:mtools mkfs.vfat:dosfstools sfdisk:fdisk mke2fs:e2fsprogs zstd:zstd; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    ((${#missing[@]} == 0)) && return 0
    say "installing ${missing[*]}"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# This kernel runs arm64's programs by qemu from here until the end of this script.
run_foreign() {
    local to=/proc/sys/fs/binfmt_misc
    [[ -e $to/register ]] || as_root mount -t binfmt_misc none $to
    [[ -e $to/qemu-aarch64 || -e $to/headwater-arm64 ]] && return 0
    local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    trap 'echo -1 | as_root tee /proc/sys/fs/binfmt_misc/headwater-arm64 >/dev/null' EXIT
    printf '%s' ":headwater-arm64:M::$magic:$mask:$(command -v qemu-aarch64-static):OCF" | as_root tee $to/register >/dev/null
}

make_root() {
    say "making a Debian for arm64; see $HERE/log"
    as_root rm -rf "$HERE/root"
    as_root mmdebstrap --mode=root --architectures=arm64 --variant=minbase --aptopt='APT::Sandbox::User "root"' \
        --include="$(IFS=,; printf '%s' "${PACKAGES[*]}")" \
        --dpkgopt='path-exclude=/usr/share/{doc,man,locale}/*' \
        bookworm "$HERE/root" "deb $(signed_by) $1 bookworm main" >"$HERE/log" 2>&1 || { tail -n 5 "$HERE/log"; return 1; }
    printf 'LABEL=%s\n' 'rootfs / ext4 defaults,noatime 0 1' 'bootfs /boot/firmware vfat defaults 0 2' |
        as_root tee "$HERE/root/etc/fstab" >/dev/null
    as_root mkdir -p "$HERE/root/boot/firmware"
    printf 'datasource_list: [NoCloud]\ndatasource: {NoCloud: {fs_label: bootfs}}\n' |
        as_root tee "$HERE/root/etc/cloud/cloud.cfg.d/99_card.cfg" >/dev/null
    as_root systemctl --quiet --root="$HERE/root" enable systemd-networkd
    as_root truncate -s 0 "$HERE/root/etc/machine-id"
}

make_image() {
    local boot="$HERE/boot.fat" root="$HERE/root.ext4" kernel
    rm -f "$boot" "$root"
    truncate -s ${BOOT_MIB}M "$boot"
    mkfs.vfat -F 32 -s 2 -n bootfs "$boot" >/dev/null
    kernel=$(find "$HERE/root/boot" -name 'vmlinuz-*')
    printf 'console=ttyAMA0 root=PARTUUID=%s-02 rootfstype=ext4 rootwait net.ifnames=0\n' $LABEL >"$HERE/cmdline.txt"
    printf '#cloud-config\n' >"$HERE/user-data"
    printf 'instance-id: as-made\n' >"$HERE/meta-data"
    printf 'version: 2\n' >"$HERE/network-config"
    mcopy -i "$boot" "$kernel" ::kernel8.img
    mcopy -i "$boot" "${kernel/vmlinuz/initrd.img}" ::initramfs8
    mcopy -i "$boot" "$HERE"/{cmdline.txt,user-data,meta-data,network-config} ::
    as_root find "$HERE/root/boot" -type f -delete
    as_root mke2fs -q -t ext4 -L rootfs -d "$HERE/root" "$root" ${ROOT_MIB}M
    printf 'label: dos\nlabel-id: 0x%s\nstart=8192, size=%s, type=c\nsize=%s, type=83\n' $LABEL \
        $((BOOT_MIB * 2048)) $((ROOT_MIB * 2048)) >"$HERE/table"
    truncate -s $((4 + BOOT_MIB + ROOT_MIB))M "$HERE/card.img"
    sfdisk -q "$HERE/card.img" <"$HERE/table"
    dd if="$boot" of="$HERE/card.img" bs=1M seek=4 conv=notrunc,sparse status=none
    dd if="$root" of="$HERE/card.img" bs=1M seek=$((4 + BOOT_MIB)) conv=notrunc,sparse status=none
    zstd -q -3 --rm -f "$HERE/card.img" -o "$HERE/card.img.zst"
    as_root rm -rf "$HERE/root" "$boot" "$root"
}

made_of() { sha256sum tests/vm/prepare-arm64.sh | cut -d' ' -f1; }

if [[ $(cat "$MADE" 2>/dev/null) != "$(made_of)" ]]; then
    mkdir -p "$HERE"
    tools
    mirror=$(debian_mirror)
    run_foreign
    make_root "$mirror"
    make_image
    made_of >"$MADE"
fi
