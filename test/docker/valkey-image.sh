#!/usr/bin/env bash
# valkey-image.sh TAG: a stand-in for the public Valkey image where no image registry is reached, made from this machine's
# valkey-server and valkey-cli, the libraries they need and busybox. User, folder, entry point and port are the public image's.
set -euo pipefail
for needed in valkey-server valkey-cli busybox; do
  command -v "$needed" >/dev/null || { echo "no $needed on this machine: install the Debian packages valkey-server and busybox-static" >&2; exit 1; }
done
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,lib64,usr/local/bin,data,etc,tmp,proc,sys,dev}
for program in valkey-server valkey-cli; do
  path=$(readlink -f "$(command -v $program)")
  cp "$path" "$root/usr/local/bin/$program"
  # Each library where the loader expects it.
  for library in $(ldd "$path" | grep -oE '/[^ ]+\.so[^ ]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
done
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh id; do ln -s busybox "$root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nvalkey:x:999:1000::/data:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nvalkey:x:1000:\n' >"$root/etc/group"
chown 999:1000 "$root/data"
chmod 755 "$root"
tar -C "$root" -c . | docker import \
  -c 'ENV PATH=/usr/local/bin:/bin' -c 'WORKDIR /data' -c 'VOLUME /data' -c 'EXPOSE 6379' -c 'CMD ["valkey-server"]' - "$1"
