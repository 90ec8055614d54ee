/** The files of a key directory (docs/protocol/kms.md section 8), in the order in which they come into being. */
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

/** Staged files of a change of root under way; complete by the same marker. */
export const ROTATION_DIRECTORY = '.rotation';
/** Retired roots, one folder each, named by the root's id. Other programs ignore it. */
export const HISTORY_DIRECTORY = 'roots';

/** The files of a retired root, in the order in which they are written. */
export const RETIRED_FILES = [
  { name: 'root-ca.crt', mode: 0o644 },
  { name: 'bootstrap-info.json', mode: 0o644 },
  { name: 'retired.json', mode: 0o644 },
  { name: 'root-ca.key', mode: 0o600 },
  { name: 'root-k256.key', mode: 0o600 },
] as const;

export type RetiredFileName = (typeof RETIRED_FILES)[number]['name'];

/** The files of each retired root, by its id. */
export type HistoryFiles = ReadonlyMap<string, ReadonlyMap<RetiredFileName, Uint8Array>>;

/** Largest file taken from a key directory; an RPC certificate carries about 10 KiB of evidence. */
export const MAX_KEY_FILE_BYTES: number = 1 << 20;
