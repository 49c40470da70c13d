#!/usr/bin/env bash
# Turns a bare Debian machine into one that can run the demo and the tests.
#
#   stack/bootstrap.sh           check the machine, then install what is missing
#   stack/bootstrap.sh --check   only check the machine; installs nothing
#   stack/bootstrap.sh --missing list the steps that are left to do
#   stack/bootstrap.sh --clean   remove everything it made, except Debian packages
#
# Debian packages come through apt, TimescaleDB is built from Debian's source package, Python packages come from
# requirements/dev.lock and jars from the two pom.xml. Each client is used as this machine has it set up: mirrors,
# proxies and certificates are the machine's own, and no registry is named here.
#
# Settings: HEADWATER_SKIP_APT=1 uses the packages that are there; HEADWATER_MIN_DISK_MB and HEADWATER_MIN_MEMORY_MB
# overrule the preflight; HEADWATER_LOCK_S is how long to wait for apt's locks. HEADWATER_OS_RELEASE and HEADWATER_MEMINFO
# are there for the tests.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly ROOT=$PWD STACK=$PWD/.stack LOGS=$PWD/.stack/logs STAMPS=$PWD/.stack/stamps
readonly LOCK=requirements/dev.lock
readonly OS_RELEASE=${HEADWATER_OS_RELEASE:-/etc/os-release} MEMINFO=${HEADWATER_MEMINFO:-/proc/meminfo}
# 2.0.11, bookworm's own, releases max_inflight more messages on every acknowledgement.
readonly MOSQUITTO_MIN=2.0.21
readonly TIMESCALEDB_SUITE=trixie TIMESCALEDB_VERSION=2.19.3
# PostgreSQL 15 looks for extensions in its own directories only, so TimescaleDB's files go there; this list, of the
# machine and not of the checkout, says which they are: a second checkout finds them, and --clean removes them.
readonly TIMESCALEDB_RECORD=/var/lib/headwater/timescaledb.files
# Measured on a bare machine: 7.5 GB, of which .venv 3.6 (half of it TensorFlow) and pip's cache 1; and 1.3 for a while
# to unpack pyspark.
# The rest is room for the demo's data.
readonly MIN_DISK_MB=${HEADWATER_MIN_DISK_MB:-12000} MIN_MEMORY_MB=${HEADWATER_MIN_MEMORY_MB:-3800}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# ---------------------------------------------------------------------------------------------------- what is said

say() { printf '%s\n' "$*"; }

# fail WHAT WHY DO: one finding of the preflight or of a step, on standard error.
fail() { printf '\nset-up: %s\n  why:  %s\n  do:   %s\n' "$1" "$2" "$3" >&2; }

# Never asks for a password: the steps run in the background, where sudo would wait for one for ever.
as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n -- "$@"; fi
}

# Asks for sudo's password, if it wants one, while somebody is there to be asked.
ask_for_rights() {
    [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null || sudo -v && return 0
    fail "sudo does not let you in" "Debian packages and TimescaleDB's files belong to the whole machine" \
        "run it as root, or ask for sudo"
    return 1
}

# ------------------------------------------------------------------------------------------------------- preflight

os_field() { sed -n "s/^$1=\"\\{0,1\\}\\([^\"]*\\)\"\\{0,1\\}\$/\\1/p" "$OS_RELEASE" 2>/dev/null || true; }

check_system() {
    local id version other='run it on a Debian 12 machine, a virtual machine or a container'
    id=$(os_field ID)
    version=$(os_field VERSION_ID)
    [[ $id == debian && ${version%%.*} =~ ^[0-9]+$ && ${version%%.*} -ge 12 ]] && return 0
    if command -v docker >/dev/null; then
        other='Docker is on this machine: docker compose --profile sim up --build starts everything (docs/compose.md)'
    fi
    fail "this is ${id:-an unknown system} ${version}, not Debian 12 or newer" \
        "the servers are installed from Debian's packages and built against them" "$other"
    return 1
}

check_rights() {
    [[ $(id -u) == 0 ]] && return 0
    needs_rights || return 0
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then return 0; fi
    fail "you are neither root nor able to use sudo" \
        "Debian packages and TimescaleDB's files are installed for the whole machine" \
        "run 'make setup' once as root, or ask for sudo; afterwards 'make demo' and 'make test' need no rights"
    return 1
}

# Whether what is left to do concerns the whole machine; the rest is done in the checkout.
needs_rights() {
    [[ -n ${HEADWATER_SKIP_APT:-} ]] || installed_everything || return 0
    ! timescaledb_is_there
}

check_architecture() {
    local machine
    machine=$(uname -m)
    [[ $machine == x86_64 || $machine == aarch64 ]] && return 0
    fail "this machine's processor is $machine" "OpenCV, Arrow and the TFLite runtime have wheels for x86_64 and aarch64 only" \
        "use a 64-bit Intel, AMD or ARM machine"
    return 1
}

check_disk() {
    local free_mb need_mb=$MIN_DISK_MB
    # What is installed already is not needed again.
    [[ -e $STAMPS/python ]] && need_mb=$((MIN_DISK_MB / 4))
    free_mb=$(df -Pm "$ROOT" | awk 'NR == 2 { print $4 }')
    ((free_mb >= need_mb)) && return 0
    fail "$free_mb MB of disk are free here, $need_mb MB are needed" \
        "Spark's and OpenCV's packages, the build of TimescaleDB and the demo's data" \
        "free some space below $ROOT, or set HEADWATER_MIN_DISK_MB if you know better"
    return 1
}

check_memory() {
    local total_mb
    total_mb=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "$MEMINFO")
    ((total_mb >= MIN_MEMORY_MB)) && return 0
    fail "this machine has $total_mb MB of memory, $MIN_MEMORY_MB MB are needed" \
        "Spark, Kafka and PostgreSQL run side by side" \
        "use a larger machine, or set HEADWATER_MIN_MEMORY_MB if you know better"
    return 1
}

check_mirror() {
    local uri lists=$1
    if ! uri=$(debian_mirror); then return 1; fi
    private_apt "$lists" "deb $(signed_by) $uri $(os_field VERSION_CODENAME) main" || return 1
    if apt-get "${APT_PRIVATE[@]}" -o APT::Update::Error-Mode=any -o Acquire::Retries=1 update >"$lists/log" 2>&1; then
        return 0
    fi
    fail "apt cannot reach Debian's mirror" "$(grep -m1 -E '^(Err|E|W):' "$lists/log" || tail -n 1 "$lists/log")" \
        "check the network, apt's sources (apt-cache policy) and apt's proxy; the full answer is in $lists/log"
    return 1
}

# PyPI and Maven are asked through pip and mvn themselves, so that their own mirrors, proxies and certificates count.
check_python_registry() {
    local log=$1/pypi.log
    # Of pip's words about a connection, the part that a person understands.
    local reason='s/.*object at 0x[0-9a-f]+>: //'
    if lock_entries wheel >"$1/wheel.lock" && "$ROOT/.venv/bin/pip" download --quiet --no-deps --no-cache-dir \
        --retries 1 --timeout 20 --require-hashes --dest "$1/wheel" -r "$1/wheel.lock" >"$log" 2>&1; then
        return 0
    fi
    fail "pip cannot fetch Python packages" "$(grep -m1 -E 'Retrying|ERROR' "$log" | sed -E "$reason" || tail -n 1 "$log")" \
        "check the network and 'pip config list' (index, proxy, cert); the full answer is in $log"
    return 1
}

check_maven_registry() {
    local log=$1/maven.log
    if mvn -B -q -N -f stack/kafka/pom.xml dependency:help >"$log" 2>&1; then
        return 0
    fi
    fail "Maven cannot fetch its plug-ins" "$(grep -m1 ERROR "$log" | cut -c1-300 || tail -n 1 "$log")" \
        "check the network and ~/.m2/settings.xml (mirrors, proxies); the full answer is in $log"
    return 1
}

# Everything that can be known before the first package is installed. All findings are told, not just the first.
preflight() {
    local bad=0
    check_system || return 1
    check_rights || bad=1
    check_architecture || bad=1
    check_disk || bad=1
    check_memory || bad=1
    ((bad == 0)) || return 1
    [[ -n ${HEADWATER_SKIP_APT:-} ]] || check_mirror "$1" || return 1
}

# ------------------------------------------------------------------------------------------------------------- apt

signed_by() { printf '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'; }

# The address this machine gets its own release's main component from, whichever way its sources are written.
debian_mirror() {
    local uri
    # Not `apt-get indextargets`: that knows nothing before the first update.
    uri=$(apt-get update --print-uris 2>/dev/null |
        sed -nE "s,^'(.+)/dists/($(os_field VERSION_CODENAME)|stable)/InRelease'.*,\\1,p" | head -n 1)
    if [[ -n $uri ]]; then
        printf '%s\n' "$uri"
        return 0
    fi
    fail "apt's sources do not have $(os_field VERSION_CODENAME) itself" \
        "Mosquitto and TimescaleDB are fetched from the mirror that this machine already uses" \
        "add the release's main component to apt's sources (sources.list(5)) and try again"
    return 1
}

# private_apt DIRECTORY LINE: an apt with sources, lists and cache of its own; the machine's stay as they are.
private_apt() {
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    printf '%s\n' "$2" >"$1/sources.list"
    # As root apt would drop to a user who cannot enter a checkout below /root; signatures are checked all the same.
    APT_PRIVATE=(-o "Dir::Etc::sourcelist=$1/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$1/lists" -o "Dir::Cache=$1/cache" -o APT::Sandbox::User=
        -o APT::Update::Post-Invoke-Success= -o APT::Update::Post-Invoke= -o Acquire::Languages=none)
}

postgres_major() {
    local newest
    newest=$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | cut -d/ -f5 | sort -n | tail -n 1)
    if [[ -z $newest ]]; then
        newest=$(apt-cache show postgresql 2>/dev/null | sed -n 's/^Depends: postgresql-\([0-9]*\).*/\1/p' | head -n 1)
    fi
    printf '%s\n' "${newest:-15}"
}

java_package() {
    if dpkg -s openjdk-17-jre-headless >/dev/null 2>&1 || apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
        say openjdk-17-jre-headless
    else
        say default-jre-headless
    fi
}

packages() {
    local major
    major=$(postgres_major)
    say "postgresql-$major" "postgresql-server-dev-$major"
    say cmake make gcc g++ dpkg-dev libssl-dev libkrb5-dev             # builds TimescaleDB
    say "$(java_package)" maven                                        # Kafka, Spark
    say python3 python3-venv ca-certificates procps
    say libcjson1 libdlt2 libwebsockets17 libwrap0 mosquitto-clients   # Mosquitto's libraries
    say python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    say gstreamer1.0-plugins-ugly                                      # x264, for the camera simulator
    say kcat
    say strace                                                         # kills the spool at every write, in its tests
    say mtools                                                         # writes cards, for fleet flash
    say dosfstools fdisk xz-utils zstd                                 # make and check cards, in its tests
}

# The package names that dpkg does not have installed, one a line.
missing_packages() {
    local wanted
    wanted=$(packages | tr ' ' '\n' | sort -u)
    comm -23 <(printf '%s\n' "$wanted") \
        <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p' | sort -u)
}

installed_everything() { [[ -z $(missing_packages) ]]; }

# Keeps package scripts from starting services and from making a PostgreSQL cluster, for the time of the install.
quiet_services() {
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        printf '#!/bin/sh\n# Headwater set-up, removed when it ends.\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
    fi
    as_root mkdir -p /etc/postgresql-common/createcluster.d
    printf 'create_main_cluster = false\n' | as_root tee /etc/postgresql-common/createcluster.d/headwater.conf >/dev/null
}

unquiet_services() {
    if grep -qs 'Headwater set-up' /usr/sbin/policy-rc.d; then as_root rm -f /usr/sbin/policy-rc.d; fi
    as_root rm -f /etc/postgresql-common/createcluster.d/headwater.conf
}

# unlocked COMMAND...: runs apt or dpkg as root, again and again while another one (unattended-upgrades, mostly) holds
# their locks. DPkg::Lock::Timeout is not enough: neither `update` nor dpkg itself knows it.
unlocked() {
    local deadline=$((SECONDS + ${HEADWATER_LOCK_S:-300})) errors
    errors=$(mktemp)
    until as_root env DEBIAN_FRONTEND=noninteractive "$@" 2>"$errors"; do
        cat "$errors" >&2
        if ! grep -qwE 'lock|locked' "$errors" || ((SECONDS >= deadline)); then
            rm -f "$errors"
            return 1
        fi
        say "waiting for the lock"
        sleep 2
    done
    cat "$errors" >&2
    rm -f "$errors"
}

install_packages() {
    local -a names
    trap unquiet_services EXIT
    # Does nothing, unless a set-up was interrupted here; then apt would refuse to go on.
    unlocked dpkg --configure -a
    unlocked apt-get -o Acquire::Retries=3 update
    # After the update: the names depend on what this release has.
    mapfile -t names < <(missing_packages)
    quiet_services
    unlocked apt-get -y --no-install-recommends -o Acquire::Retries=3 install "${names[@]}"
}

# ---------------------------------------------------------------------------------------------------------- Python

# lock_entries NAME...: these packages' lines of the lock, hashes included.
lock_entries() {
    awk -v names=" $* " '
        /^[A-Za-z0-9]/ { split($1, parts, "=="); wanted = index(names, " " parts[1] " ") > 0 }
        wanted && !/^ *#/' "$LOCK"
}

make_venv() {
    # One that was finished is brought up to date in place: somebody may be running from it.
    if [[ -x .venv/bin/python && "$(cut -d' ' -f2 "$STAMPS/python" 2>/dev/null)" == "$(system_python)" ]]; then return 0; fi
    rm -rf .venv
    # /usr/bin: Debian's own interpreter, which has GStreamer's bindings, and not one that a PATH happens to find.
    /usr/bin/python3 -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
    /usr/bin/python3 -m venv .venv
}

system_python() { readlink -f /usr/bin/python3 || true; }

# The names that pip has installed and the lock does not ask for; pip and what venv puts beside it excepted.
superfluous_packages() {
    local normal='s/==.*//; s/\[.*//; s/[-_.]+/-/g; s/.*/\L&/'
    comm -23 <("$ROOT/.venv/bin/pip" list --format=freeze | sed -E "$normal" | sort -u) \
        <({ grep -E '^[A-Za-z0-9]' "$LOCK"; printf '%s\n' pip setuptools; } | sed -E "$normal" | sort -u)
}

# pyspark is a source archive of 430 MB. What builds it comes from the lock too (an isolated build would fetch it
# unchecked), and its wheel is not compressed, for it lives only until it is unpacked.
install_python() {
    local pip="$ROOT/.venv/bin/pip"
    printf '[bdist_wheel]\ncompression = stored\n' >"$STACK/build.cfg"
    lock_entries setuptools wheel packaging >"$STACK/build.lock"
    "$pip" install --no-input --progress-bar off --require-hashes --no-deps -r "$STACK/build.lock"
    DIST_EXTRA_CONFIG="$STACK/build.cfg" TMPDIR="$STACK/tmp" "$pip" install --no-input --progress-bar off --no-compile \
        --require-hashes --no-deps --no-build-isolation -r "$LOCK"
    superfluous_packages | xargs --no-run-if-empty "$pip" uninstall --yes
    "$pip" check
}

# ------------------------------------------------------------------------------------------------------------ jars

# copy_jars POM DIRECTORY
copy_jars() {
    rm -rf "$2"
    mvn -B -q -f "$1" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$2"
}

install_jars() {
    copy_jars "$ROOT/stack/kafka/pom.xml" "$STACK/kafka/lib"
    copy_jars "$ROOT/stream/pom.xml" "$STACK/spark/jars"
}

# ------------------------------------------------------------------------------------------------------- Mosquitto

# Fills APT_PRIVATE and VERSION from the machine's own release, or else from its backports.
find_mosquitto() {
    APT_PRIVATE=()
    VERSION=$(apt-cache policy mosquitto | sed -n 's/^ *Candidate: //p')
    dpkg --compare-versions "${VERSION:-0}" ge "$MOSQUITTO_MIN" && return 0
    private_apt "$STACK/apt/mosquitto" "deb $(signed_by) $(debian_mirror) $(os_field VERSION_CODENAME)-backports main"
    apt-get "${APT_PRIVATE[@]}" -o APT::Update::Error-Mode=any update
    VERSION=$(apt-cache "${APT_PRIVATE[@]}" show mosquitto | sed -n 's/^Version: //p' | head -n 1)
    dpkg --compare-versions "${VERSION:-0}" ge "$MOSQUITTO_MIN"
}

install_mosquitto() {
    local said download=$STACK/apt/mosquitto/download
    find_mosquitto || { say "no Mosquitto $MOSQUITTO_MIN or newer in this release nor its backports"; return 1; }
    rm -rf "$download" "$STACK/mosquitto"
    mkdir -p "$download" "$STACK/mosquitto"
    (cd "$download" && apt-get "${APT_PRIVATE[@]}" download "mosquitto=$VERSION")
    for package in "$download"/*.deb; do dpkg -x "$package" "$STACK/mosquitto"; done
    # Its help ends with an error code, but only starts if its libraries are found.
    said=$("$STACK/mosquitto/usr/sbin/mosquitto" -h || true)
    grep -m1 '^mosquitto version' <<<"$said"
}

# ----------------------------------------------------------------------------------------------------- TimescaleDB

pg_config() { printf '/usr/lib/postgresql/%s/bin/pg_config\n' "$(postgres_major)"; }

timescaledb_control() { printf '/usr/share/postgresql/%s/extension/timescaledb.control\n' "$(postgres_major)"; }

# All of it: an installation that was interrupted may have left the control file alone.
timescaledb_is_there() {
    local control version
    control=$(timescaledb_control)
    version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$control" 2>/dev/null) || return 1
    [[ -e ${control%.control}--$version.sql && -e /usr/lib/postgresql/$(postgres_major)/lib/timescaledb-$version.so ]]
}

build_timescaledb() {
    local source=$STACK/timescaledb/source
    rm -rf "$STACK/timescaledb"
    mkdir -p "$source"
    private_apt "$STACK/apt/timescaledb" "deb-src $(signed_by) $(debian_mirror) $TIMESCALEDB_SUITE main"
    apt-get "${APT_PRIVATE[@]}" -o APT::Update::Error-Mode=any update
    (cd "$source" && apt-get "${APT_PRIVATE[@]}" source timescaledb)
    # APACHE_ONLY: Debian's source package carries no Timescale-licensed code.
    cmake -S "$source"/timescaledb-"$TIMESCALEDB_VERSION"* -B "$STACK/timescaledb/build" -DPG_CONFIG="$(pg_config)" \
        -DAPACHE_ONLY=1 -DREGRESS_CHECKS=OFF -DTAP_CHECKS=OFF -DWARNINGS_AS_ERRORS=OFF -DCMAKE_BUILD_TYPE=Release
    cmake --build "$STACK/timescaledb/build" --parallel "$(nproc)"
}

install_timescaledb() {
    if timescaledb_is_there; then
        say "TimescaleDB is there already: $(timescaledb_control)"
        return 0
    fi
    build_timescaledb
    as_root cmake --install "$STACK/timescaledb/build"
    as_root mkdir -p "$(dirname "$TIMESCALEDB_RECORD")"
    as_root cp "$STACK/timescaledb/build/install_manifest.txt" "$TIMESCALEDB_RECORD"
    rm -rf "$STACK/timescaledb"
}

# ----------------------------------------------------------------------------------------------------------- steps

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# What a step's result depends on; when it changes, the step runs again.
key_of() {
    case $1 in
        python) say "$(hash_of "$LOCK") $(system_python)" ;;
        jars) hash_of stack/kafka/pom.xml stream/pom.xml ;;
        mosquitto) say "$MOSQUITTO_MIN" ;;
        timescaledb) say "$TIMESCALEDB_VERSION $(postgres_major)" ;;
    esac
}

# A file that only a finished step leaves.
witness_of() {
    case $1 in
        python) say .venv/bin/python ;;
        jars) say .stack/spark/jars ;;
        mosquitto) say .stack/mosquitto/usr/sbin/mosquitto ;;
        timescaledb) timescaledb_control ;;
    esac
}

done_already() {
    [[ -e $(witness_of "$1") && "$(cat "$STAMPS/$1" 2>/dev/null)" == "$(key_of "$1")" ]] || return 1
    [[ $1 != timescaledb ]] || timescaledb_is_there
}

declare -A STEP_PID=() STEP_START=()

step_log() { printf '%s/setup-%s.log\n' "$LOGS" "$1"; }

# start STEP FUNCTION: runs it in the background, in a process group of its own so that it can be ended as a whole.
start() {
    local key
    key=$(key_of "$1")
    STEP_START[$1]=$SECONDS
    rm -f "$STAMPS/$1"
    say "  $1: started (log: ${LOGS#"$ROOT"/}/setup-$1.log)"
    set -m
    (
        set -euo pipefail
        "$2"
        if [[ -n $key ]]; then printf '%s\n' "$key" >"$STAMPS/$1"; fi
    ) </dev/null >"$(step_log "$1")" 2>&1 &
    STEP_PID[$1]=$!
    set +m
}

step_failed() {
    say "  $1: FAILED after $((SECONDS - STEP_START[$1])) s; the last lines of its log:"
    tail -n 15 "$(step_log "$1")" | sed 's/^/    | /'
    fail "the step '$1' failed" "see the lines above, or all of $(step_log "$1")" \
        "mend the cause and run 'make setup' again: the steps that worked are kept"
}

# Waits for all started steps, saying every 15 s which are still running.
await_steps() {
    local step bad=0 told=$SECONDS
    while ((${#STEP_PID[@]} > 0)); do
        for step in "${!STEP_PID[@]}"; do
            kill -0 "${STEP_PID[$step]}" 2>/dev/null && continue
            if wait "${STEP_PID[$step]}"; then
                say "  $step: done in $((SECONDS - STEP_START[$step])) s"
            else
                bad=1
                step_failed "$step"
            fi
            unset "STEP_PID[$step]"
        done
        if ((SECONDS - told >= 15 && ${#STEP_PID[@]} > 0)); then
            told=$SECONDS
            say "  ... $SECONDS s, still running: ${!STEP_PID[*]}"
        fi
        sleep 0.2
    done
    return "$bad"
}

end_steps() {
    local pid
    for pid in "${STEP_PID[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
}

interrupted() {
    end_steps
    unquiet_services
    fail "interrupted" "somebody wanted it to stop" "run 'make setup' again: the steps that worked are kept"
    exit 130
}

check_registries() {
    local bad=0
    check_python_registry "$1" &
    check_maven_registry "$1" || bad=1
    wait $! || bad=1
    return "$bad"
}

# The steps that are left to do, one a line.
missing() {
    local step
    [[ -n ${HEADWATER_SKIP_APT:-} ]] || installed_everything || say apt
    for step in python jars mosquitto timescaledb; do done_already "$step" || say "$step"; done
}

# Takes the checkout's lock; behind another set-up it waits, and then looks again at what is left to do.
lock() {
    mkdir -p "$LOGS" "$STAMPS" "$STACK/tmp"
    exec 9>"$STACK/lock"
    if ! flock -n 9; then
        say "  another set-up is running in this checkout: waiting for it"
        flock 9
        exec stack/bootstrap.sh
    fi
}

# Whether a set-up that was killed (-9) left the machine unable to start services.
left_quiet() { grep -qs 'Headwater set-up' /usr/sbin/policy-rc.d; }

# After `sudo make setup` the checkout's owner has to be able to use what it made. Clusters belong to postgres.
give_to_owner() {
    [[ $(id -u) == 0 && $(stat -c %u .) != 0 ]] || return 0
    find .venv .stack -path '.stack/run/*' -prune -o -exec chown -h --reference=. {} +
}

set_up() {
    local todo
    mapfile -t todo < <(missing)
    if ((${#todo[@]} == 0)) && ! left_quiet; then
        say "set-up: everything is in place"
        return 0
    fi
    say "set-up: ${todo[*]:-mending what was interrupted} (about 2 minutes on a bare machine with 2 cores)"
    lock
    trap interrupted INT TERM HUP
    preflight "$STACK/apt/preflight" || return 1
    say "  preflight: passed"
    if needs_rights || left_quiet; then ask_for_rights || return 1; fi
    if left_quiet; then unquiet_services; fi
    # Not `|| return 1`: that would switch off -e in all that it calls.
    take_steps "${todo[@]}"
    rm -rf "$STACK/tmp" "$STACK/apt"
    give_to_owner
    say "set-up: done in $SECONDS s"
}

# take_steps STEP...: Debian packages first, for they bring what the other steps are made with; these run side by side.
take_steps() {
    local step todo=("$@") apt=''
    if [[ ${1:-} == apt ]]; then
        apt=1
        todo=("${todo[@]:1}")
    fi
    if [[ -n $apt ]]; then
        start apt install_packages
        await_steps || return 1
    fi
    [[ " ${todo[*]} " == *" python "* ]] && make_venv
    if [[ " ${todo[*]} " =~ \ (python|jars)\  ]]; then
        check_registries "$STACK/tmp" || return 1
        say "  registries: within reach"
    fi
    for step in "${todo[@]}"; do start "$step" "install_$step"; done
    await_steps
}

only_check() {
    CHECK_DIR=$(mktemp -d)
    # After a failure it stays: the message names a log in it.
    trap '(($? != 0)) || rm -rf "$CHECK_DIR"' EXIT
    preflight "$CHECK_DIR" || return 1
    if command -v mvn >/dev/null; then check_maven_registry "$CHECK_DIR" || return 1; else say "Maven: not asked, mvn comes with the set-up"; fi
    if [[ -x .venv/bin/pip ]]; then check_python_registry "$CHECK_DIR" || return 1; else say "PyPI: not asked, pip comes with the set-up"; fi
    say "preflight: this machine can run Headwater"
}

# What runs from the files that `clean` removes, if anything does: a set-up, a demo, or a server of a test run.
in_use() {
    local path pid
    if [[ -e $STACK/lock ]] && ! flock -n "$STACK/lock" true; then say "a set-up"; fi
    for path in "$STACK"/run/*/.headwater-demo; do
        if [[ -e $path ]] && ! flock -n "$path" true; then say "the demo in $(dirname "$path")"; fi
    done
    for path in "$STACK"/run/*-*-*; do
        pid=${path%-*}
        pid=${pid##*-}
        if [[ $pid =~ ^[0-9]+$ && -e /proc/$pid ]]; then say "the server in $path, for process $pid"; fi
    done
    path=$STACK/docker/dockerd.pid
    if [[ -e $path && -e /proc/$(<"$path") ]]; then say "the Docker engine of make compose-test"; fi
}

clean() {
    local running
    running=$(in_use)
    if [[ -n $running ]]; then
        fail "nothing was removed: ${running//$'\n'/, } still runs" "its files would go from under it" \
            "stop it (Ctrl-C where it was started) and run 'make clean' again"
        return 1
    fi
    ask_for_rights
    if [[ -e $TIMESCALEDB_RECORD ]]; then
        # The manifest has no line end after its last name.
        while IFS= read -r file || [[ -n $file ]]; do as_root rm -f -- "$file"; done <"$TIMESCALEDB_RECORD"
        as_root rm -rf "$(dirname "$TIMESCALEDB_RECORD")"
        say "removed TimescaleDB's files from PostgreSQL's directories"
    fi
    # PostgreSQL's clusters, where its account cannot enter the checkout; the name is stack/timescale.py's.
    as_root rm -rf "/var/tmp/headwater-$(printf '%s' "$ROOT" | sha256sum | cut -c1-12)"
    as_root rm -rf .stack
    rm -rf .venv .run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
    say "removed .venv, .stack and the caches; Debian packages stay (apt purge removes those you no longer want)"
}

main() {
    case ${1:-} in
        '') set_up ;;
        --check) only_check ;;
        --missing) missing ;;
        --clean) clean ;;
        *)
            say "usage: stack/bootstrap.sh [--check | --missing | --clean]" >&2
            exit 2
            ;;
    esac
}

# Sourced, it only defines its functions: for the tests.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
