import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import type { StateStore } from './state-store.ts';

/** Records whose values are for gateways alone: keys of certificates and of the account. */
const SECRET = ['cert/', 'acme/'];
const FORM = 'sealed:1:';
const [NONCE, TAG] = [12, 16];

/**
 * Keeps secret records encrypted with AES-256-GCM, bound to their names: neither the disk nor the members of an etcd can read them, put
 * one in the place of another, or put in one of their own. What does not open is handed on as a text that is no record, never as
 * an absent one; so is a record that was written in the clear.
 * @param secret of the TEE; nodes of one application have the same
 */
export function sealedStore(store: StateStore, secret: Uint8Array): StateStore {
  const key = new Uint8Array(hkdfSync('sha256', secret, '', 'dstack-gateway state', 32));
  const isSecret = (name: string): boolean => SECRET.some((prefix) => name.startsWith(prefix));
  const seal = (name: string, text: string): string => {
    const nonce = randomBytes(NONCE);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(name));
    const sealed = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return FORM + sealed.toString('base64');
  };
  const unseal = (name: string, text: string): string => {
    if (!text.startsWith(FORM)) return 'this record is not sealed';
    const bytes = Buffer.from(text.slice(FORM.length), 'base64');
    if (bytes.length < NONCE + TAG) return 'this record is too short';
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE), { authTagLength: TAG });
      decipher.setAAD(Buffer.from(name)).setAuthTag(bytes.subarray(-TAG));
      return Buffer.concat([decipher.update(bytes.subarray(NONCE, -TAG)), decipher.final()]).toString('utf8');
    } catch {
      return 'this record was sealed by somebody else';
    }
  };
  const opened = <T extends { readonly key: string; readonly value: string | undefined }>(record: T): T =>
    record.value === undefined || !isSecret(record.key)
      ? record
      : { ...record, value: unseal(record.key, record.value) };

  return {
    ...store,
    list: async (prefix) => {
      const { entries, revision } = await store.list(prefix);
      return { entries: entries.map(opened), revision };
    },
    commit: (expectations, writes) =>
      store.commit(
        expectations,
        writes.map(({ key: name, value }) => ({
          key: name,
          value: value !== undefined && isSecret(name) ? seal(name, value) : value,
        })),
      ),
    watch: (prefix, after, onChange, onLost) =>
      store.watch(prefix, after, (change) => onChange(opened(change)), onLost),
  };
}
