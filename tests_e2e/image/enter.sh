#!/bin/sh
# Becomes a container's first process: enter.sh ROOT VOLUME UID:GID WORKDIR NAME=VALUE… -- COMMAND…
# Runs in new mount and process namespaces. The root is read-only; /tmp is empty and writable, /app/data is the volume.
set -eu
root=$1 volume=$2 user=$3 workdir=$4
shift 4

mount --make-rprivate /
mount --bind "$root" /mnt
mount -o remount,bind,ro /mnt
mount -t tmpfs -o mode=1777 tmpfs /mnt/tmp
mount -t proc proc /mnt/proc
mount --rbind /dev /mnt/dev
mount --bind "$volume" /mnt/app/data

# shellcheck disable=SC2016 # the inner shell expands these
exec chroot --userspec="$user" --groups= /mnt /usr/bin/env -i /bin/sh -c '
  cd "$0"
  while [ "$1" != -- ]; do export "$1"; shift; done
  shift
  exec "$@"' "$workdir" "$@"
