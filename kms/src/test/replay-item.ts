import { expect } from 'vitest';
import { type Answer, ask } from './ask.ts';
import { certificateShape, notAfterOf } from './certificate-shape.ts';
import { bytesOf } from './recorded.ts';
import type { FullItem } from './recorded-full.ts';
import type { RecordedKms } from './recorded-kms.ts';
import type { RecordedFile } from './replay-plan.ts';
import { type Difference, differenceOf } from './wanted-differences.ts';
import type { WebhookPolicy } from './webhook.ts';

/** Where an exchange goes; the main listener by default. */
export type ReplayTarget = {
  readonly port: number;
  readonly plain: boolean;
  /** How the auth API answers; as recorded by default. */
  readonly policy?: WebhookPolicy;
  /** Another request body, where the recorded one names a place that is elsewhere now. */
  readonly body?: Uint8Array | string;
  /** Compares bodies whose values cannot be equal. */
  readonly compare?: (recorded: unknown, found: unknown) => void;
};

type Replaying = Pick<RecordedKms, 'webhook' | 'clock' | 'clientOf'>;

/**
 * Sends a recorded exchange to ours at the recorded second and compares status, headers and body, or sees the wanted
 * difference. Nobody is asked whom the original did not ask.
 */
export async function replay(
  kms: Replaying,
  file: RecordedFile,
  item: FullItem,
  target: ReplayTarget,
): Promise<void> {
  kms.webhook.policy = target.policy ?? item.webhook_policy ?? {};
  kms.webhook.asked.length = 0;
  const recordedHeaders = Object.fromEntries(item.response?.headers ?? []);
  const date = recordedHeaders['date'];
  if (date !== undefined) kms.clock.now = Date.parse(date) / 1000;
  const { method, path, headers = [] } = item.request!;
  const sent = ask(target.port, path, {
    method,
    body: target.body ?? requestBody(item),
    headers: Object.fromEntries(headers),
    plain: target.plain,
    client: kms.clientOf(item),
  });
  const difference = differenceOf(item.id, file);
  if (item.response?.status === undefined && difference === undefined) {
    // The original refused the connection, and so do we.
    await expect(sent).rejects.toThrow();
    return;
  }
  const answer = await sent;
  const status = Number(/^HTTP\/1.1 (\d+)/.exec(item.response?.status ?? '')?.[1]);
  expect([answer.status, answer.status === 200 ? '' : answer.body.toString('latin1')]).toEqual([
    difference?.status ?? status,
    expect.anything(),
  ]);
  compareHeaders(answer, recordedHeaders, target, difference);
  if (difference?.status !== 200) compareQuestions(item, kms.webhook.asked, difference);
  if (difference?.error !== undefined) expect(answer.body.toString('latin1')).toMatch(difference.error);
  else if (difference?.status !== undefined) return;
  else if (target.compare === undefined) compareBody(item, answer);
  else target.compare(jsonOf(bytesOf(item.response?.body ?? null)), jsonOf(answer.body));
}

function jsonOf(body: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(body));
}

/** Bodies that the recording describes instead of holding them: only their length matters. */
function requestBody({ request }: FullItem): Uint8Array {
  const note = request?.body?.note;
  if (note === undefined) return bytesOf(request?.body ?? null);
  const length = Number(/^(\d+)/.exec(note)?.[1]);
  if (note.includes('zero')) return new Uint8Array(length);
  const valid = new TextEncoder().encode(`{"app_id":"${'11'.repeat(20)}"}`);
  const body = new Uint8Array(length).fill(0x20);
  body.set(valid, length - valid.length);
  return body;
}

const SAME_HEADERS = ['x-frame-options', 'x-content-type-options', 'permissions-policy', 'www-authenticate'];

function compareHeaders(
  { headers, body }: Answer,
  recorded: Readonly<Record<string, string>>,
  { plain }: ReplayTarget,
  difference: Difference | undefined,
): void {
  const otherStatus = difference?.status !== undefined;
  if (!otherStatus) {
    for (const name of SAME_HEADERS) expect([name, headers[name]]).toEqual([name, recorded[name]]);
  }
  expect(headers['transfer-encoding']).toBeUndefined();
  if (body.length > 0) expect(Number(headers['content-length'])).toBe(body.length);
  // Every answer of the main listener names the version, no answer of another one does.
  if (plain) expect(headers['x-app-version']).toBeUndefined();
  else expect(headers['x-app-version']).toMatch(/^v\d+\.\d+\.\d+ \(.+\)$/);
  if (otherStatus) return;
  const media = (type: unknown): string | undefined =>
    type === undefined ? undefined : String(type).split(';')[0];
  expect(media(headers['content-type'])).toBe(difference?.type ?? media(recorded['content-type']));
}

/** Ours asks nobody whom the original did not ask, and what it says of an app is what the original said. */
function compareQuestions(
  { webhook = [] }: FullItem,
  asked: readonly { path: string; body: string }[],
  difference: Difference | undefined,
): void {
  // The original asks about itself first and then about the app, ours about both at once.
  if (webhook.length === 0) expect(asked.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
  const ours = asked.find(({ path }) => path === '/bootAuth/app');
  const recorded = webhook.find(({ url }) => url === '/bootAuth/app');
  if (ours === undefined || typeof recorded?.body !== 'string') return;
  const expected = Object.entries(JSON.parse(recorded.body) as object);
  const same = expected.filter(([name]) => difference?.asks?.includes(name) !== true);
  expect(JSON.parse(ours.body)).toMatchObject(Object.fromEntries(same));
}

/** Bodies alike, except for what no two answers share: times, signatures over them, certificates just made. */
function compareBody(item: FullItem, { headers, body: found }: Pick<Answer, 'headers' | 'body'>): void {
  const type = String(headers['content-type']);
  const recorded = Buffer.from(bytesOf(item.response?.body ?? null));
  if (/text\/html|version=0.0.4/.test(type) || item.request!.method === 'HEAD') return;
  if (item.id === 'metrics') return;
  if (type.startsWith('application/json')) {
    expect(mask(JSON.parse(found.toString()))).toEqual(mask(JSON.parse(recorded.toString())));
    return;
  }
  if (/GetAttestationInfo protobuf|attinfo-binary/.test(item.id)) {
    expect(withoutIdentities(found)).toBe(withoutIdentities(recorded));
    return;
  }
  // Times, and certificates just made, differ; what stands before them does not.
  const same = /^envpub-binary/.test(item.id) ? 101 : item.id === 'v2-binary' ? 1 : recorded.length;
  expect(found.subarray(0, same).toString('hex')).toBe(recorded.subarray(0, same).toString('hex'));
}

/** An AttestationInfoResponse without the values of the machine: device id, two measurements, and the PPID at its end. */
function withoutIdentities(message: Uint8Array): string {
  const hex = Buffer.from(message).toString('hex');
  return hex.replace(/^0a20.{64}1220.{64}1a20.{64}/, '0a20 1220 1a20 ').replace(/4210.{32}$/, '4210');
}

function mask(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { code, simulated, ...rest } = value as Record<string, unknown>;
  if (code !== undefined) expect(code).toMatch(/^[A-Z_]+$/);
  if (simulated !== undefined) expect(simulated).toBe(true);
  if ('signature_v1' in rest) return { ...rest, timestamp: 0, signature_v1: '' };
  if ('certificate_chain' in rest) {
    const chain = rest['certificate_chain'] as string[];
    return { certificates: chain.map((pem) => certificateShape(pem, notAfterOf(chain.at(-1)!))) };
  }
  return rest;
}
