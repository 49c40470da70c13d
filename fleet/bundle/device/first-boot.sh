#!/bin/sh
# Installs the bundle in FOLDER and what else lies there for this node (edge.yaml, enrol.json, cert.pem, key.pem, models/).
# For cloud-init, for firstrun.sh, and for `fleet install`.
#
#   first-boot.sh [--again] [--no-start] [--data DIR] FOLDER
#
# It may be cut off anywhere: a unit of its own goes on with it at the next boot, until all is done. After that it takes in
# an enrolment that lies there, and does nothing else, unless --again. FOLDER/wipe.sh, where there is one, is run at the end:
# it deletes what is secret there, and not before all of that is in its place.
set -eu
umask 022
prefix=${HEADWATER_PREFIX-}
# In directories of root's: the agent's own are none of ours.
own=$prefix/usr/lib/headwater incoming=$prefix/opt/.headwater-incoming
done_file=$own/installed
unit=headwater-first-boot.service
unit_file=$prefix/etc/systemd/system/$unit
again=no options='' data=

say() { echo "headwater: $*"; }
fail() { echo "headwater: $*" >&2; exit 1; }

# At each boot from now on: who called this may call it once only.
go_on_at_next_boot() {
    [ -e "$unit_file" ] || put_unit
    # A cut may have come before this.
    systemctl enable "$unit"
    sync "$(dirname "$unit_file")"
}

put_unit() {
    mkdir -p "$(dirname "$unit_file")"
    printf '[Unit]\nDescription=Headwater, first boot\nRequiresMountsFor=%s\n\n[Service]\nType=oneshot\nExecStart=/bin/sh "%s" %s "%s"\n\n[Install]\nWantedBy=multi-user.target\n' \
        "$folder" "$folder/first-boot.sh" "${data:+--data $data}" "$folder" >"$unit_file.partial"
    sync "$unit_file.partial"
    mv -f -- "$unit_file.partial" "$unit_file"
}

# What is left to do once all is in place.
end() {
    [ ! -f "$folder/wipe.sh" ] || sh "$folder/wipe.sh"
    [ -e "$unit_file" ] || return 0
    systemctl disable "$unit"
    rm -f -- "$unit_file"
}

# The one bundle in FOLDER, as $bundle.
find_bundle() {
    bundle=
    for file in "$folder"/*.deb "$folder"/*.tar.gz "$folder"/*.tar; do
        [ -f "$file" ] || continue
        [ -z "$bundle" ] || fail "there are two bundles in $folder: $bundle and $file"
        bundle=$file
    done
    [ -n "$bundle" ] || fail "there is no bundle in $folder"
}

install_package() {
    HEADWATER_SETUP="$options ${data:+--data $data}" HEADWATER_NODE=$folder
    export HEADWATER_SETUP HEADWATER_NODE
    # Cut off within dpkg.
    dpkg --configure -a
    dpkg --install "$bundle"
}

install_archive() {
    rm -rf -- "$incoming"
    mkdir -p "$(dirname "$incoming")"
    # It may hold a token, and is large: it goes again, whatever becomes of it.
    trap 'rm -rf -- "$incoming"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir -m 0700 "$incoming"
    wanted=$(tar -xOf "$bundle" --occurrence=1 about | sed -n 's/^KIB=//p')
    [ -n "$wanted" ] || fail "$bundle was made by an older fleet, whose bundles install otherwise: make it anew"
    left=$(df --output=avail -k -- "$incoming" | tail -n 1 | tr -d ' ')
    [ "$left" -gt "$wanted" ] || fail "there are $((left / 1024)) MiB left, and $((wanted / 1024)) are wanted to unpack"
    tar -xf "$bundle" -C "$incoming" --no-same-owner
    # shellcheck disable=SC2086 # options are words
    sh "$incoming/install" $options ${data:+--data "$data"} "$folder"
}

while [ $# -gt 0 ]; do
    case $1 in
    --again) again=yes ;;
    --no-start) options="$options --no-start" ;;
    --data)
        data=${2:?--data wants a directory}
        shift
        ;;
    -*) fail "unknown option $1" ;;
    *) break ;;
    esac
    shift
done
folder=$(cd "${1:?which folder?}" && pwd)

mkdir -p "$prefix/run"
# Two at once, as cloud-init and the unit, would be in each other's way.
exec 9>"$prefix/run/headwater-first-boot.lock"
flock 9
if [ "$again" = no ]; then
    if [ -e "$done_file" ]; then
        # Put there since, or left by a cut before it was wiped: what was taken in before is known again.
        # shellcheck disable=SC2086 # options are words
        [ ! -f "$folder/enrol.json" ] || "$own/setup" $options --enrolment "$folder"
        end
        exit 0
    fi
    go_on_at_next_boot
fi
find_bundle
say "installing $(basename "$bundle")"
case $bundle in
*.deb) install_package ;;
*) install_archive ;;
esac
# Before that is noted: after it nobody would.
rm -rf -- "$incoming"
touch "$done_file"
sync "$done_file" "$own"
end
