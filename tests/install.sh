#!/usr/bin/env bash
# Brings what the tests talk to: real servers, a browser, and the newer Prometheus beside Debian's own.
# Safe to run again: it does only what is missing, and says so. Without root it says what it would install and goes on.
# JOULEFLOOR_REQUIRE_PEERS=1 makes anything that stays missing an error.
set -uo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(prometheus prometheus-alertmanager prometheus-node-exporter victoria-metrics
  chromium fonts-dejavu-core strace valgrind openssl curl util-linux
  gcc libc6-dev docker.io iptables debootstrap)
OPTIONAL=(fonts-inter)
NEWER=(prometheus prometheus-alertmanager victoria-metrics)
NEWER_PROGRAMS=(prometheus promtool prometheus-alertmanager victoria-metrics)
SUITES=(forky trixie)
# The folder keeps its name when trixie fills it, so that every reader looks in one place.
NEWER_ROOT=.tools/forky
missing=()

say() { printf '%s\n' "install: $*"; }

retry() {
  local try
  for try in 1 2 3; do
    "$@" && return 0
    [ "$try" = 3 ] || { say "attempt $try of '$1 ${*:2:3} ...' failed, trying again"; sleep $((try * 5)); }
  done
  return 1
}

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# SYSTEMD_OFFLINE: where systemd runs, Prometheus must not also start as a service on the ports of whoever runs the tests.
apt() {
  DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
    -o Dpkg::Use-Pty=0 "$@" >>"$LOG" 2>&1
}

system_packages() {
  local wanted=() package
  for package in "${PACKAGES[@]}"; do installed "$package" || wanted+=("$package"); done
  command -v node >/dev/null 2>&1 || wanted+=(nodejs)
  command -v npm >/dev/null 2>&1 || wanted+=(npm)
  local extra=()
  for package in "${OPTIONAL[@]}"; do installed "$package" || extra+=("$package"); done
  [ ${#wanted[@]} = 0 ] && [ ${#extra[@]} = 0 ] && return 0
  if [ "$(id -u)" != 0 ]; then
    [ ${#wanted[@]} = 0 ] || missing+=("${wanted[@]}")
    say "not root: as root, 'apt-get install --no-install-recommends ${wanted[*]} ${extra[*]}' would bring what is missing"
    return 0
  fi
  say "installing ${wanted[*]} ${extra[*]}"
  retry apt update || say "apt-get update failed; its last lines: $(tail -n 3 "$LOG" | tr '\n' ' ')"
  if [ ${#wanted[@]} != 0 ] && ! retry apt install --no-install-recommends "${wanted[@]}"; then
    say "apt-get install failed; its last lines:"
    tail -n 5 "$LOG"
  fi
  for package in "${wanted[@]}"; do installed "$package" || missing+=("$package"); done
  for package in "${extra[@]}"; do
    apt install --no-install-recommends "$package" || say "$package is not to be had: pictures use another font"
  done
}

complete() {
  local program
  for program in "${NEWER_PROGRAMS[@]}"; do [ -x "$1/usr/bin/$program" ] || return 1; done
}

mirror() {
  local found
  found=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null)
  [ -n "$found" ] || found=$(awk '/^deb / {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list 2>/dev/null)
  printf '%s' "${found:-http://deb.debian.org/debian}"
}

# A private apt root, so that neither the machine's package lists nor its installed packages change.
unpack_suite() {
  local suite=$1 top root package
  top=$(mktemp -d "$PWD/.tools/unpack.XXXXXX")
  mkdir -p "$top/etc/apt" "$top/var/lib/apt/lists/partial" "$top/var/cache/apt/archives/partial" "$top/var/lib/dpkg"
  : >"$top/var/lib/dpkg/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$(mirror)" "$suite" \
    >"$top/etc/apt/sources.list"
  local private=(apt-get -q -o "Dir=$top" -o "Dir::State::status=$top/var/lib/dpkg/status" -o APT::Sandbox::User=root
    -o "APT::Architecture=$(dpkg --print-architecture)" -o Acquire::Retries=3 -o Acquire::Languages=none)
  root=$top/root
  if retry "${private[@]}" update >>"$LOG" 2>&1; then
    for package in "${NEWER[@]}"; do
      (cd "$top" && retry "${private[@]}" download "$package") >>"$LOG" 2>&1 || say "$suite has no $package"
    done
    # forky ships promtool as a package of its own, trixie inside prometheus.
    (cd "$top" && "${private[@]}" download promtool) >>"$LOG" 2>&1
    for package in "$top"/*.deb; do [ -e "$package" ] && dpkg-deb -x "$package" "$root"; done
  fi
  if complete "$root" && "$root/usr/bin/prometheus" --version >>"$LOG" 2>&1; then
    mkdir -p "$NEWER_ROOT"
    rm -rf "$NEWER_ROOT/root"
    mv "$root" "$NEWER_ROOT/root"
    printf '%s\n' "$suite" >"$NEWER_ROOT/suite"
  fi
  rm -rf "$top"
}

newer_servers() {
  local suite
  complete "$NEWER_ROOT/root" && return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    missing+=("Prometheus 3.x (no apt-get here)")
    return 0
  fi
  for suite in "${SUITES[@]}"; do
    say "unpacking Prometheus, Alertmanager and VictoriaMetrics of Debian $suite under $NEWER_ROOT"
    unpack_suite "$suite"
    complete "$NEWER_ROOT/root" && return 0
  done
  say "neither ${SUITES[*]} gave the newer Prometheus; the last lines of apt-get:"
  tail -n 5 "$LOG"
  missing+=("Prometheus 3.x")
}

mkdir -p .tools
LOG=$PWD/.tools/install.log
: >"$LOG"
system_packages
newer_servers

if [ ${#missing[@]} != 0 ]; then
  say "still missing: ${missing[*]}; tests that need them are skipped with that reason"
  [ "${JOULEFLOOR_REQUIRE_PEERS:-}" != 1 ] || exit 1
fi
exit 0
