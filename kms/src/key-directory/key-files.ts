/** The files of a key directory (chapter 10 section 6.6), in the order in which they come into being. */
export const KEY_FILES = [
  { name: 'rpc-domain', mode: 0o644 },
  { name: 'root-ca.crt', mode: 0o644 },
  { name: 'tmp-ca.crt', mode: 0o644 },
  { name: 'rpc.crt', mode: 0o644 },
  { name: 'bootstrap-info.json', mode: 0o644 },
  { name: 'tmp-ca.key', mode: 0o600 },
  { name: 'rpc.key', mode: 0o600 },
  { name: 'root-ca.key', mode: 0o600 },
  { name: 'root-k256.key', mode: 0o600 },
] as const;

export type KeyFileName = (typeof KEY_FILES)[number]['name'];

/** A directory with both of these has keys; nothing ever overwrites them. */
export const ROOT_KEY_FILES = ['root-ca.key', 'root-k256.key'] as const;

/** Staged files of a commit under way. */
export const PENDING_DIRECTORY = '.pending';
/** Present when all staged files are complete: from then on the commit is finished, never taken back. */
export const COMPLETE_MARKER = 'complete';

/** Largest file taken from a key directory; an RPC certificate carries about 10 KiB of evidence. */
export const MAX_KEY_FILE_BYTES: number = 1 << 20;
