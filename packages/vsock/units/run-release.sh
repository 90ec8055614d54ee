#!/bin/sh
# Makes a parent instance of AWS run the release in the folder $1: its proxy, its enclave. Does nothing when it runs already.
set -eu
release=$1
fail() {
  echo "dstack: $*" >&2
  exit 1
}
running() {
  nitro-cli describe-enclaves | tr -d ' \n' | tr '{' '\n' |
    grep -F '"EnclaveName":"dstack"' | grep -qF '"State":"RUNNING"'
}
current=$(readlink /opt/dstack/current || true)
if [ "$current" = "$release" ] && systemctl is-active -q dstack-enclave && running; then
  systemctl enable -q dstack-enclave
  exit 0
fi

systemctl stop dstack-enclave 2>/dev/null || true
# The allocator gives nothing back while an enclave runs.
if ! cmp -s "$release/allocator.yaml" /etc/nitro_enclaves/allocator.yaml ||
  ! systemctl is-active -q nitro-enclaves-allocator; then
  mkdir -p /etc/nitro_enclaves
  cp "$release/allocator.yaml" /etc/nitro_enclaves/allocator.yaml
  systemctl enable -q nitro-enclaves-allocator
  if ! systemctl restart nitro-enclaves-allocator; then
    why=$(journalctl -u nitro-enclaves-allocator -n 10 --no-pager -o cat | grep '^Error: ' | tail -n 1)
    fail "no-resources: ${why:-the allocator gives no reason}"
  fi
fi

mkdir -p /etc/dstack /usr/local/lib/dstack
cp "$release/programs/units/run-enclave.sh" /usr/local/lib/dstack/
cp "$release"/programs/units/*.service /etc/systemd/system/
printf '#!/bin/sh\nexec node %s/programs/dstack-vsock-proxy.js "$@"\n' "$release" >/usr/local/bin/dstack-vsock-proxy
chmod 755 /usr/local/bin/dstack-vsock-proxy
cp "$release/enclave.env" /etc/dstack/enclave.env
ln -sfn "$release" /opt/dstack/current
systemctl daemon-reload
cp "$release/vsock-proxy.json" /etc/dstack/vsock-proxy.json
systemctl enable -q dstack-vsock-proxy
systemctl restart dstack-vsock-proxy || fail 'dstack-vsock-proxy does not start'
systemctl enable -q dstack-enclave
systemctl restart dstack-enclave || fail 'the enclave does not start'
for _ in $(seq 120); do
  if running; then exit 0; fi
  if [ "$(systemctl show -p NRestarts --value dstack-enclave)" != 0 ]; then fail 'the enclave does not start'; fi
  sleep 1
done
fail 'the enclave does not run after two minutes'
