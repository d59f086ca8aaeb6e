#!/bin/bash
# Installs packages on Debian or Ubuntu, as root, such that no service of theirs is started or enabled: what runs on
# this machine as a system server stays as it was. Usage: apt-install.sh package...
set -euo pipefail

# One at a time: two would swap the policy below under each other's feet.
exec 9>/run/lock/kaimai-apt.lock
flock -w 900 9

policy=/usr/sbin/policy-rc.d
saved=$policy.kaimai-saved
mark='# put here by kaimai while it installs packages'

restore() {
  if [ -e "$saved" ]; then
    mv -f "$saved" "$policy"
  elif grep -qsF "$mark" "$policy"; then
    rm -f "$policy"
  fi
}
# Also after a run that was killed.
restore
trap restore EXIT
# Bash runs a trap only once the command in the foreground has ended, and dpkg must not be interrupted; fetching may be.
fetching=
trap '[ -z "$fetching" ] || kill -TERM "$fetching"; exit 130' INT TERM
trap '' HUP
fetch() {
  "$@" &
  fetching=$!
  wait "$fetching"
  fetching=
}

if [ -e "$policy" ]; then mv "$policy" "$saved"; fi
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt=(apt-get -qq -y -o Dpkg::Progress-Fancy=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)

installed() { dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort; }
before=$(installed)

update() { fetch "${apt[@]}" update; }
install() {
  fetch "${apt[@]}" install --no-install-recommends --download-only "$@" &&
    "${apt[@]}" install --no-install-recommends "$@"
}

if ! apt-cache show "$@" >/dev/null 2>&1; then
  update
  install "$@"
else
  # Lists that are old name packages that the mirror has replaced.
  install "$@" || { update && install "$@"; }
fi

# The packages enable their services for the next boot.
for package in $(comm -13 <(printf '%s\n' "$before") <(installed) | grep -E '^(postgresql|redis|rabbitmq|erlang|etcd)'); do
  for path in $(dpkg -L "$package"); do
    unit=${path##*/}
    case $path in
      */systemd/system/*@.*) ;;
      */systemd/system/*.service | */systemd/system/*.socket)
        # It wants to be called by a package.
        DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$unit" >/dev/null 2>&1 || true
        ;;
      /etc/init.d/*) update-rc.d "$unit" disable >/dev/null 2>&1 || true ;;
    esac
  done
done
