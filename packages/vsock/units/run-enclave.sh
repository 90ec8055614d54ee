#!/bin/sh
# Runs the enclave that /etc/dstack/enclave.env names, and ends when the enclave has ended, so that systemd starts it again.
set -eu
runs() {
  nitro-cli describe-enclaves | tr -d ' \n' | tr '{' '\n' |
    grep -F "\"EnclaveName\":\"$ENCLAVE_NAME\"" | grep -qF '"State":"RUNNING"'
}
# Left by a run that was killed.
nitro-cli terminate-enclave --enclave-name "$ENCLAVE_NAME" >/dev/null 2>&1 || true
nitro-cli run-enclave --enclave-name "$ENCLAVE_NAME" --eif-path "$EIF" \
  --cpu-count "$CPU_COUNT" --memory "$MEMORY_MIB" --enclave-cid "$ENCLAVE_CID"
while runs; do sleep 5; done
echo "The enclave $ENCLAVE_NAME has ended" >&2
exit 1
