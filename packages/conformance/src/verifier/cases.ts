import { decodeAttestation } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { type ConformanceCase, expectSame, expectText, expectThat, NotApplicable } from '../case.ts';
import { type Endpoint, exchange, jsonOf } from '../endpoint.ts';

/** A verifier, and evidence that it must accept. */
export interface VerifierTarget {
  readonly endpoint: Endpoint;
  /** A versioned attestation. */
  readonly evidence?: Uint8Array | undefined;
}

const SECTION = 'verification.md 10';
/** Places in a quote: header, MRTD, RTMR3, report data, signature, attestation key, report of the quoting enclave, its signature. */
const CHANGED = [0, 12, 200, 530, 600, 640, 710, 800, 1100, 1160];

async function verify(endpoint: Endpoint, body: object): Promise<Record<string, unknown>> {
  const headers = { 'Content-Type': 'application/json' };
  const answer = await exchange(endpoint, { path: '/verify', headers, body: JSON.stringify(body) });
  expectSame('Status', answer.status, 200);
  return jsonOf(answer);
}

function expectRefused(what: string, answer: Record<string, unknown>): string {
  expectSame(`is_valid of ${what}`, answer['is_valid'], false);
  expectText(`reason of ${what}`, answer['reason'], /./);
  return answer['reason'];
}

function evidenceOf({ evidence }: VerifierTarget): Uint8Array {
  if (evidence === undefined) throw new NotApplicable('needs --evidence');
  return evidence;
}

/** What a verifier answers. */
export const VERIFIER_CASES: readonly ConformanceCase<VerifierTarget>[] = [
  {
    id: 'verifier.health',
    checks: 'GET /health answers ok.',
    section: SECTION,
    run: async ({ endpoint }) => {
      const answer = await exchange(endpoint, { method: 'GET', path: '/health' });
      expectSame('Status', answer.status, 200);
      expectSame('status', jsonOf(answer)['status'], 'ok');
    },
  },
  {
    id: 'verifier.routes',
    checks: 'Another path, and another verb of /verify, is 404 or 405.',
    section: SECTION,
    run: async ({ endpoint }) => {
      for (const [method, path] of [
        ['GET', '/verify'],
        ['POST', '/other'],
        ['GET', '/'],
      ] as const) {
        const { status } = await exchange(endpoint, { method, path });
        expectThat(status === 404 || status === 405, `${method} ${path} answers ${status}`);
      }
    },
  },
  {
    id: 'verifier.not-json',
    checks: 'A body that is no JSON is 400; a member of another type, and bad hex, are 422.',
    section: SECTION,
    run: async ({ endpoint }) => {
      const headers = { 'Content-Type': 'application/json' };
      for (const [body, expected] of [
        ['{', 400],
        ['', 400],
        ['{"attestation":5}', 422],
        ['{"attestation":"0xzz"}', 422],
        ['{"quote":"00","event_log":{}}', 422],
      ] as const)
        expectSame(
          `Status of ${body}`,
          (await exchange(endpoint, { path: '/verify', headers, body })).status,
          expected,
        );
    },
  },
  {
    id: 'verifier.nothing',
    checks: 'Without a quote, and without an event log, the verdict is no, and says which is missing.',
    section: SECTION,
    run: async ({ endpoint }) => {
      expectText('reason', expectRefused('{}', await verify(endpoint, {})), /Quote is required/);
      const reason = expectRefused('a bare quote', await verify(endpoint, { quote: '00' }));
      expectText('reason', reason, /Event log is required/);
    },
  },
  {
    id: 'verifier.garbage',
    checks: 'Bytes that are no evidence are refused.',
    section: SECTION,
    run: async ({ endpoint }) => {
      for (const attestation of ['00', 'ff', '00'.repeat(1000), '81', 'de0000'])
        expectRefused(attestation.slice(0, 8), await verify(endpoint, { attestation }));
      expectRefused(
        'a quote of zeros',
        await verify(endpoint, { quote: '00'.repeat(5000), event_log: '[]', vm_config: '{}' }),
      );
    },
  },
  {
    id: 'verifier.members',
    checks: 'A verdict has is_valid, reason and details with what was verified.',
    section: SECTION,
    run: async ({ endpoint }) => {
      const { details } = await verify(endpoint, { attestation: '00' });
      expectThat(typeof details === 'object' && details !== null, 'details is no object');
      for (const name of ['quote_verified', 'event_log_verified', 'os_image_hash_verified'])
        expectSame(name, (details as Record<string, unknown>)[name], false);
    },
  },
  {
    id: 'verifier.accepts',
    checks:
      'Good evidence is accepted: every part is verified, there is no reason, the application is named.',
    section: SECTION,
    run: async (target) => {
      const attestation = toHex(evidenceOf(target));
      const answer = await verify(target.endpoint, { attestation });
      expectSame('reason', answer['reason'], null);
      expectSame('is_valid', answer['is_valid'], true);
      const details = answer['details'] as Record<string, unknown>;
      for (const name of ['quote_verified', 'event_log_verified', 'os_image_hash_verified'])
        expectSame(name, details[name], true);
      expectText('report_data', details['report_data'], /^[0-9a-f]{128}$/);
      const info = details['app_info'] as Record<string, unknown>;
      expectText('app_id', info['app_id'], /^[0-9a-f]{40}$/);
      expectText('compose_hash', info['compose_hash'], /^[0-9a-f]{64}$/);
    },
  },
  {
    id: 'verifier.changed',
    checks: 'A quote of TDX of which one bit is another is refused, wherever it is.',
    section: 'verification.md 2.2',
    run: async (target) => {
      const evidence = evidenceOf(target);
      const { quote } = decodeAttestation(evidence);
      if (quote.mode !== 'dstack-tdx') throw new NotApplicable(`the evidence is ${quote.mode}`);
      const start = Buffer.from(evidence).indexOf(quote.quote);
      for (const at of CHANGED) {
        const changed = evidence.slice();
        changed[start + at] = changed[start + at]! ^ 1;
        expectRefused(`byte ${at}`, await verify(target.endpoint, { attestation: toHex(changed) }));
      }
    },
  },
  {
    id: 'verifier.cut',
    checks: 'Evidence that was cut, or that something follows, is refused.',
    section: 'README.md 4.3',
    run: async (target) => {
      const evidence = toHex(evidenceOf(target));
      const half = evidence.slice(0, 2 * Math.floor(evidence.length / 4));
      for (const attestation of [evidence.slice(2), evidence.slice(0, -2), half, `${evidence}00`])
        expectRefused(`${attestation.length / 2} bytes`, await verify(target.endpoint, { attestation }));
    },
  },
];
