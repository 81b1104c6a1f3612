#!/usr/bin/env bash
# haproxy-image.sh TAG: a stand-in for the public haproxy image where no image registry is reached, made from this machine's
# haproxy, the libraries it needs and busybox. User, entry point, command and stop signal are the public image's.
set -euo pipefail
for needed in haproxy busybox; do
  command -v "$needed" >/dev/null || { echo "no $needed on this machine: install the Debian packages haproxy and busybox-static" >&2; exit 1; }
done
haproxy=$(command -v haproxy)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,lib64,usr/local/sbin,usr/local/bin,usr/local/etc/haproxy,var/lib/haproxy,etc,tmp,proc,sys,dev}
cp "$haproxy" "$root/usr/local/sbin/haproxy"
# Each library where the loader expects it.
for library in $(ldd "$haproxy" | grep -oE '/[^ ]+\.so[^ ]*'); do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh wget id; do ln -s busybox "$root/bin/$applet"; done
printf 'root:x:0:0:root:/root:/bin/sh\nhaproxy:x:99:99::/var/lib/haproxy:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nhaproxy:x:99:\n' >"$root/etc/group"
# As the public image does: a master and a worker, in the foreground.
cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'SH'
#!/bin/sh
set -e
if [ "$1" = haproxy ]; then shift; set -- haproxy -W -db "$@"; fi
exec "$@"
SH
chmod 755 "$root/usr/local/bin/docker-entrypoint.sh" "$root"
tar -C "$root" -c . | docker import \
  -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/bin' -c 'USER haproxy' -c 'WORKDIR /var/lib/haproxy' -c 'STOPSIGNAL SIGUSR1' \
  -c 'ENTRYPOINT ["docker-entrypoint.sh"]' -c 'CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]' - "$1"
