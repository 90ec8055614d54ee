import { fromHex, toHex } from '@dstack-cloud/encoding';

/** Longest line either side accepts, bytes. */
export const MAX_LINE: number = 64 * 1024;

/** Errors as a file system would give them. */
type TsmErrno = 'EACCES' | 'EBUSY' | 'EINVAL' | 'EIO' | 'ENOENT';

export type TsmRequest =
  | { readonly op: 'read'; readonly file: string }
  | { readonly op: 'write'; readonly file: string; readonly data: Uint8Array };

export type TsmReply =
  | { readonly ok: true; readonly data?: Uint8Array }
  | { readonly ok: false; readonly errno: TsmErrno };

/** Reads one request line; undefined for anything that is none. */
export function parseRequest(line: string): TsmRequest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { op, file, data } = value as Record<string, unknown>;
  if (typeof file !== 'string') return undefined;
  if (op === 'read' && data === undefined) return { op, file };
  if (op !== 'write' || typeof data !== 'string') return undefined;
  try {
    return { op, file, data: fromHex(data) };
  } catch {
    return undefined;
  }
}

/** One reply line, with its line end. */
export function replyLine(reply: TsmReply): string {
  const value = reply.ok && reply.data ? { ok: true, data: toHex(reply.data) } : reply;
  return `${JSON.stringify(value)}\n`;
}
