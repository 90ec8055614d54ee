import { createHash } from 'node:crypto';
import { CliError } from '../../../../errors.ts';

/** The key by which a host proves that it is the one that is meant. */
export interface HostKey {
  /** `ssh-ed25519`, as the key itself says (RFC 4253 section 6.6). */
  readonly type: string;
  /** `SHA256:` and base64, as `ssh-keygen -l` prints it. */
  readonly fingerprint: string;
}

/** Kinds of keys and the signatures that are accepted of them; RSA without SHA-1 (RFC 8332). */
const SIGNATURES: Readonly<Record<string, readonly string[]>> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
};
const MAX_KEY = 4096;
const MAX_KEYS = 8;
const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;
/** Where cloud-init prints the keys of a new instance. */
const CONSOLE = /-----BEGIN SSH HOST KEY KEYS-----([\s\S]*?)-----END SSH HOST KEY KEYS-----/g;

/** The key of a public key in its binary form; undefined when that is none of a kind that is accepted. */
export function hostKeyOf(blob: Uint8Array): HostKey | undefined {
  if (blob.length < 4 || blob.length > MAX_KEY) return undefined;
  const bytes = Buffer.from(blob.buffer, blob.byteOffset, blob.length);
  const length = bytes.readUInt32BE(0);
  if (length > 64 || 4 + length >= bytes.length) return undefined;
  const type = bytes.toString('latin1', 4, 4 + length);
  if (!Object.hasOwn(SIGNATURES, type)) return undefined;
  const digest = createHash('sha256').update(bytes).digest('base64').replace(/=+$/, '');
  return { type, fingerprint: `SHA256:${digest}` };
}

/** The key of a line of a `.pub` file: `ssh-ed25519 AAAA… comment`. */
function hostKeyOfLine(line: string): HostKey | undefined {
  const [type, text = ''] = line.trim().split(/\s+/);
  if (text.length > 2 * MAX_KEY || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined;
  const key = hostKeyOf(Buffer.from(text, 'base64'));
  return key?.type === type ? key : undefined;
}

/** `nitro_config.ssh_host_key`. @throws CliError `bad_app_json` */
export function parseHostKey(text: string): HostKey {
  const key = hostKeyOfLine(text);
  if (key !== undefined) return key;
  throw new CliError('bad_app_json', 'nitro_config.ssh_host_key is no public key of a host', {
    expected: `a line of a .pub file below /etc/ssh of the host, of type ${Object.keys(SIGNATURES).join(', ')}`,
    found: JSON.stringify(text.slice(0, 80)),
  });
}

/** The keys that an instance printed on its console when it was made; none when it has not yet. */
export function hostKeysOfConsole(text: string): HostKey[] {
  const block = [...text.matchAll(CONSOLE)].at(-1)?.[1] ?? '';
  const keys = block.split('\n').map(hostKeyOfLine);
  return keys.filter((key) => key !== undefined).slice(0, MAX_KEYS);
}

/** Keys as text of a tag. */
export function hostKeyTag(keys: readonly HostKey[]): string {
  const words = keys.map(({ type, fingerprint }) => `${type}=${fingerprint}`);
  // A tag holds 256 characters.
  return words.slice(0, 3).join(' ');
}

/** @throws CliError `refused` when the tag is none that this program wrote */
export function parseHostKeyTag(text: string): HostKey[] {
  return text.split(' ').map((word) => {
    const at = word.indexOf('=');
    const [type, fingerprint] = [word.slice(0, at), word.slice(at + 1)];
    if (Object.hasOwn(SIGNATURES, type) && FINGERPRINT.test(fingerprint)) return { type, fingerprint };
    throw new CliError(
      'refused',
      'The tag of the instance that holds the keys of its SSH server is damaged',
      {
        found: JSON.stringify(text.slice(0, 256)),
        hint: 'Set nitro_config.ssh_host_key, or make a new instance with dstack-cloud deploy --delete',
      },
    );
  });
}

/** Names of signatures to offer to a host that must show one of these keys. */
export function signaturesOf(keys: readonly HostKey[]): string[] {
  return [...new Set(keys.flatMap(({ type }) => SIGNATURES[type] ?? []))];
}
