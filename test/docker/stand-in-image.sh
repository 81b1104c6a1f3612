#!/usr/bin/env bash
# stand-in-image.sh TAG USER:GROUP PROGRAM...: a stand-in for a public image where no image registry is reached: these programs
# of this machine, the first of which it starts, the libraries they need and busybox. Its folder /data belongs to the user.
set -euo pipefail
tag=$1 user=$2
shift 2
for needed in "$@" busybox; do
  command -v "$needed" >/dev/null || { echo "no $needed on this machine: install the Debian package that has it" >&2; exit 1; }
done
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,lib64,usr/local/bin,data,etc,tmp,proc,sys,dev}
for program in "$@"; do
  path=$(readlink -f "$(command -v "$program")")
  cp "$path" "$root/usr/local/bin/$program"
  # Each library where the loader expects it.
  for library in $(ldd "$path" | grep -oE '/[^ ]+\.so[^ ]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
done
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh id; do ln -s busybox "$root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:%s::/data:/bin/sh\n' "$user" >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:%s:\n' "${user#*:}" >"$root/etc/group"
chown "$user" "$root/data"
chmod 755 "$root"
tar -C "$root" -c . | docker import \
  -c 'ENV PATH=/usr/local/bin:/bin' -c 'WORKDIR /data' -c 'VOLUME /data' -c "CMD [\"$1\"]" - "$tag"
