import type { HostFile } from './bucket.ts';

/** Name of the enclave on its host, for nitro-cli. */
export const ENCLAVE_NAME = 'dstack';

/** A file for the host, and the link that it is fetched by. */
interface Fetched {
  readonly file: HostFile;
  readonly url: string;
}

/** What a host is to run. */
export interface HostRelease {
  /** Names the release by all of its content. */
  readonly id: string;
  readonly eif: Fetched;
  readonly programs: Fetched;
  /** Configuration of `dstack-vsock-proxy`. */
  readonly proxy: string;
  readonly cpuCount: number;
  readonly memoryMib: number;
  readonly cid: number;
}

/** One command at a time on a host: a killed run of this program may have left one that still works. */
const LOCKED = `set -eu
umask 022
fail() { echo "dstack: $*" >&2; exit 1; }
mkdir -p /opt/dstack/releases
exec 9>/opt/dstack/lock
flock -w 900 9 || fail 'another command is still at work on this host'
`;

/**
 * Makes the host run a release. All that can fail before is done before the running enclave is stopped, and an enclave that
 * does not start makes room for the one of before.
 */
export function deployScript(release: HostRelease): string {
  const { id, eif, programs, proxy, cpuCount, memoryMib, cid } = release;
  return `${LOCKED}
release=/opt/dstack/releases/${id}
fetch() {
  curl -fsS --retry 5 --retry-connrefused --connect-timeout 20 --speed-limit 1024 --speed-time 60 -o "$2" "$1" || fail "$4 cannot be fetched"
  echo "$3  $2" | sha256sum -c --status || fail "$4 is another file than was uploaded"
}
packages() {
  command -v nitro-cli >/dev/null && command -v node >/dev/null && return 0
  dnf install -y -q aws-nitro-enclaves-cli nodejs22 >&2 || fail 'aws-nitro-enclaves-cli and nodejs22 cannot be installed'
}
packages
[ -e /dev/nitro_enclaves ] || fail 'no-enclaves: there is no /dev/nitro_enclaves'
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
  fail "Node $(node --version) is too old for dstack-vsock-proxy: 20.19 or later is needed"
if [ ! -e "$release/complete" ]; then
  rm -rf "$release"
  mkdir -p "$release/programs"
  fetch ${quoted(programs.url)} "$release/programs.tar.gz" ${programs.file.sha256} 'The archive of programs'
  tar -xzf "$release/programs.tar.gz" -C "$release/programs" --no-same-owner
  rm "$release/programs.tar.gz"
  fetch ${quoted(eif.url)} "$release/enclave.eif" ${eif.file.sha256} 'The enclave image'
  cat > "$release/enclave.env" <<'END'
ENCLAVE_NAME=${ENCLAVE_NAME}
EIF=/opt/dstack/releases/${id}/enclave.eif
CPU_COUNT=${cpuCount}
MEMORY_MIB=${memoryMib}
ENCLAVE_CID=${cid}
END
  cat > "$release/allocator.yaml" <<'END'
---
memory_mib: ${memoryMib}
cpu_count: ${cpuCount}
END
  echo ${Buffer.from(proxy).toString('base64')} | base64 -d > "$release/vsock-proxy.json"
  node "$release/programs/dstack-vsock-proxy.js" --check --config "$release/vsock-proxy.json" >&2
  touch "$release/complete"
fi
previous=$(readlink /opt/dstack/current || true)
if ! sh "$release/programs/units/run-release.sh" "$release"; then
  journalctl -u dstack-enclave -u nitro-enclaves-allocator -n 20 --no-pager -o cat >&2 || true
  if [ "$previous" != "$release" ] && [ -e "$previous/complete" ]; then
    sh "$previous/programs/units/run-release.sh" "$previous" && echo 'dstack: the enclave of before runs again' >&2
  fi
  fail 'the new enclave does not start'
fi
for old in /opt/dstack/releases/*; do [ "$old" = "$release" ] || rm -rf "$old"; done
nitro-cli describe-enclaves
`;
}

/** Ends the enclave, which then does not start with its host either. */
export const STOP_SCRIPT: string = `${LOCKED}
if systemctl is-active -q dstack-enclave; then echo stopped; fi
systemctl disable -q --now dstack-enclave 2>/dev/null || true
`;

/** Starts the enclave that was deployed last. */
export const START_SCRIPT: string = `${LOCKED}
release=$(readlink /opt/dstack/current) || fail 'no-release: nothing was deployed on this host'
sh "$release/programs/units/run-release.sh" "$release" || {
  journalctl -u dstack-enclave -n 20 --no-pager -o cat >&2 || true
  exit 1
}
nitro-cli describe-enclaves
`;

/** What runs, or an empty list on a host without nitro-cli. */
export const DESCRIBE_SCRIPT: string = `if command -v nitro-cli >/dev/null; then nitro-cli describe-enclaves; else echo '[]'; fi
`;

/** Lines of what the host's units say, and a cursor for the next request. */
export function logScript(lines: number, cursor: string | undefined): string {
  const from = cursor === undefined ? `-n ${lines}` : `--after-cursor ${quoted(cursor)} -n ${lines}`;
  return `journalctl -u dstack-enclave -u dstack-vsock-proxy -u nitro-enclaves-allocator ${from} --no-pager -o short-iso --show-cursor | tail -c 20000\n`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
