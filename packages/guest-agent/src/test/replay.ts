import { createHash } from 'node:crypto';
import { request } from 'node:http';
import { fixtureJson } from '@dstack-cloud/test/fixtures';

/** One recorded exchange; see the README of the recordings. */
export interface Case {
  id: string;
  service: string;
  method: string | null;
  listener: 'internal' | 'internal-v0' | 'external' | 'guest-api';
  transport: string;
  variant?: string;
  request: {
    verb: string;
    target: string;
    headers?: [string, string][];
    body?: Body;
    body_built?: BuiltBody;
  };
  status: number | null;
  headers?: Record<string, string | number>;
  compare: string;
  mask?: string[] | number[];
  response?: Body & { sha256?: string; length?: number };
  response_shape?: Record<string, unknown>;
  response_json?: Record<string, unknown>;
  tcb_info?: { text_sha256: string; values: Record<string, string> };
}

interface BuiltBody {
  kind: 'json' | 'protobuf';
  total_length: number;
}

interface Body {
  utf8?: string;
  hex?: string;
}

/** What a server answered. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
}

/** All recorded exchanges of one set-up. */
export function recordedCases(variant: string | undefined): Case[] {
  const { cases } = fixtureJson<{ cases: Case[] }>('guest-original/expected.json');
  return cases.filter((one) => one.variant === variant);
}

/** Sends a recorded request over a Unix socket. */
export function send(
  socketPath: string,
  { verb, target, headers = [], body, body_built }: Case['request'],
): Promise<Answer> {
  const bytes = body_built === undefined ? bytesOf(body) : built(body_built);
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath,
        path: target,
        method: verb,
        agent: false,
        timeout: 10_000,
        headers: { host: 'localhost', ...Object.fromEntries(headers), 'content-length': bytes.length },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers as Record<string, string>,
            body: Buffer.concat(chunks),
          }),
        );
      },
    );
    outgoing.once('error', reject);
    outgoing.once('timeout', () => outgoing.destroy(new Error(`${target}: no answer`)));
    outgoing.end(bytes);
  });
}

/** A body that is too large to be stored: a path of the letter a, so that the whole has the length. */
function built({ kind, total_length: total }: BuiltBody): Buffer {
  if (kind === 'json') return Buffer.from(`{"path":"${'a'.repeat(total - '{"path":""}'.length)}"}`);
  // Field 1, wire type 2; lengths of this size take four bytes as a varint.
  const length = total - 5;
  const varint = [0, 7, 14, 21].map((shift, index) => ((length >> shift) & 0x7f) | (index < 3 ? 0x80 : 0));
  return Buffer.concat([Buffer.from([0x0a, ...varint]), Buffer.alloc(length, 'a')]);
}

/** Bytes of a recorded body. */
export function bytesOf(body: Body | undefined): Buffer {
  return body?.hex === undefined ? Buffer.from(body?.utf8 ?? '', 'utf8') : Buffer.from(body.hex, 'hex');
}

/** SHA-256, lower-case hex. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
