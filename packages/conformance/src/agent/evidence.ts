import { decodeAttestation, eventLogFromJson, replayDigests, type TdReport } from '@dstack-cloud/attestation';
import { fromBase64, fromHex, toHex } from '@dstack-cloud/encoding';
import { type ConformanceCase, expectSame, expectText, expectThat, NotApplicable, reading } from '../case.ts';
import { type Endpoint, exchange, jsonOf } from '../endpoint.ts';
import { call, expectRefusal, hexOf, refusal, textMember } from '../rpc.ts';
import type { AgentTarget } from './target.ts';
import { tdReportOf } from './td-report.ts';

const CONTENT = '0102030405';
const PADDED = CONTENT.padEnd(128, '0');

interface Quote {
  readonly answer: Record<string, unknown>;
  readonly td: TdReport;
}

/** A quote of a machine with TDX. */
async function getQuote(dstack: Endpoint, report_data: string): Promise<Quote> {
  await requireTdx(dstack);
  const answer = await call(dstack, '/GetQuote', { report_data });
  return { answer, td: tdReportOf(fromHex(hexOf(answer, 'quote'))) };
}

async function requireTdx(dstack: Endpoint): Promise<void> {
  const { mode } = (await attestation(dstack, '')).quote;
  if (mode !== 'dstack-tdx' && mode !== 'dstack-gcp-tdx') throw new NotApplicable(`the machine is ${mode}`);
}

async function attestation(dstack: Endpoint, report_data: string) {
  const bytes = fromHex(hexOf(await call(dstack, '/Attest', { report_data }), 'attestation'));
  return reading('attestation', () => decodeAttestation(bytes));
}

/** The event log of an answer replayed, register by register. */
export function expectReplay(log: string, expected: readonly string[], registers: readonly number[]): void {
  const events = reading('event_log', () => eventLogFromJson(log));
  expectThat(events.length > 0, 'The event log is empty');
  for (const register of registers) {
    const digests = events.filter(({ imr }) => imr === register).map(({ digest }) => digest);
    expectThat(
      digests.every(({ length }) => length === 48),
      `An event of register ${register} has no digest`,
    );
    expectSame(
      `Register ${register} replayed from the log`,
      toHex(replayDigests(digests, 'sha384')),
      expected[register],
    );
  }
}

/** Quotes and attestations. */
export const EVIDENCE_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.get-quote.report-data',
    checks: 'The quote and the answer have the report data, padded with zeros on the right to 64 bytes.',
    section: 'guest-agent.md 4.3',
    run: async ({ dstack }) => {
      for (const data of ['', CONTENT, 'ff'.repeat(64)]) {
        const { answer, td } = await getQuote(dstack, data);
        expectSame('report_data', answer['report_data'], data.padEnd(128, '0'));
        expectSame('Report data of the quote', toHex(td.reportData), data.padEnd(128, '0'));
      }
    },
  },
  {
    id: 'agent.get-quote.too-long',
    checks: 'GetQuote and Attest refuse report data of more than 64 bytes.',
    section: 'guest-agent.md 4.3',
    run: async ({ dstack }) => {
      const report_data = '00'.repeat(65);
      await expectRefusal(dstack, '/Attest', { report_data }, /Report data is too long/);
      await requireTdx(dstack);
      await expectRefusal(dstack, '/GetQuote', { report_data }, /Report data is too long/);
    },
  },
  {
    id: 'agent.get-quote.event-log',
    checks: 'The event log is a JSON list of events that replays to registers 0 to 2 of the quote.',
    section: 'event-logs.md 2.3',
    run: async ({ dstack }) => {
      const { answer, td } = await getQuote(dstack, CONTENT);
      expectReplay(textMember(answer, 'event_log'), td.rtmrs.map(toHex), [0, 1, 2]);
    },
  },
  {
    id: 'agent.get-quote.runtime-digests',
    checks: 'Runtime events in the log have their digests: it replays to RTMR3 of the quote.',
    section: 'guest-agent.md 4.3',
    isExtension: true,
    run: async ({ dstack }) => {
      const { answer, td } = await getQuote(dstack, CONTENT);
      expectReplay(textMember(answer, 'event_log'), td.rtmrs.map(toHex), [3]);
    },
  },
  {
    id: 'agent.get-quote.vm-config',
    checks: 'vm_config is the text of a JSON object.',
    section: 'guest-agent.md 3',
    run: async ({ dstack }) => {
      const { answer } = await getQuote(dstack, '');
      const text = textMember(answer, 'vm_config');
      const value: unknown = reading('vm_config', () => JSON.parse(text));
      expectThat(typeof value === 'object' && value !== null, 'vm_config is no object');
    },
  },
  {
    id: 'agent.get-quote.registers',
    checks: 'The JSON answer has mrtd and rtmr0 to rtmr3 of the quote.',
    section: 'guest-agent.md 4.3',
    isExtension: true,
    run: async ({ dstack }) => {
      const { answer, td } = await getQuote(dstack, '');
      expectSame('mrtd', answer['mrtd'], toHex(td.mrTd));
      td.rtmrs.forEach((value, index) => {
        expectSame(`rtmr${index}`, answer[`rtmr${index}`], toHex(value));
      });
    },
  },
  {
    id: 'agent.get-quote.base64',
    checks: 'With ?encoding=base64 the quote is base64.',
    section: 'guest-agent.md 4.3',
    isExtension: true,
    run: async ({ dstack }) => {
      await requireTdx(dstack);
      const path = `/GetQuote?report_data=${CONTENT}&encoding=base64`;
      const { quote } = jsonOf(await exchange(dstack, { method: 'GET', path }));
      expectText('quote', quote, /^[A-Za-z0-9+/]+=*$/);
      const td = tdReportOf(reading('quote', () => fromBase64(quote)));
      expectSame('Report data of the quote', toHex(td.reportData), PADDED);
    },
  },
  {
    id: 'agent.get-quote.at-once',
    checks: 'Quotes that are asked for at the same time each have their own report data.',
    section: 'guest-agent.md 4.3',
    run: async ({ dstack }) => {
      await requireTdx(dstack);
      const asked = Array.from({ length: 8 }, (_, index) => `a${index}`);
      const quotes = await Promise.all(asked.map((data) => call(dstack, '/GetQuote', { report_data: data })));
      quotes.forEach((answer, index) => {
        const td = tdReportOf(fromHex(hexOf(answer, 'quote')));
        expectSame('Report data of the quote', toHex(td.reportData), asked[index]!.padEnd(128, '0'));
      });
    },
  },
  {
    id: 'agent.attest.report-data',
    checks: 'Attest gives a versioned attestation with the padded report data.',
    section: 'guest-agent.md 4.3',
    run: async ({ dstack }) => {
      for (const data of ['', CONTENT]) {
        const { reportData, quote } = await attestation(dstack, data);
        expectSame('report_data of the attestation', toHex(reportData), data.padEnd(128, '0'));
        if (quote.mode === 'dstack-tdx' || quote.mode === 'dstack-gcp-tdx') {
          const td = tdReportOf(quote.quote);
          expectSame('Report data of the quote', toHex(td.reportData), data.padEnd(128, '0'));
        }
      }
    },
  },
  {
    id: 'agent.get-attestation',
    checks: 'GetAttestation gives the attestation over user_data; document is null but in an enclave.',
    section: 'guest-agent.md 4.8',
    isExtension: true,
    run: async ({ dstack }) => {
      const path = `/GetAttestation?user_data=${CONTENT}`;
      const answer = jsonOf(await exchange(dstack, { method: 'GET', path }));
      const bytes = fromHex(hexOf(answer, 'attestation'));
      const { quote, reportData } = reading('attestation', () => decodeAttestation(bytes));
      expectSame('report_data of the attestation', toHex(reportData), PADDED);
      expectSame('document is there', answer['document'] !== null, quote.mode === 'dstack-nitro-enclave');
    },
  },
  {
    id: 'agent.emit-event.extends',
    checks: 'EmitEvent extends RTMR3, and the log of the next quote has the event.',
    section: 'guest-agent.md 4.5',
    run: async ({ dstack, emitEvents }) => {
      if (!emitEvents) throw new NotApplicable('needs --emit-events');
      const before = await getQuote(dstack, '');
      await emit(dstack, 'conformance', 'c0ffee');
      const { answer, td } = await getQuote(dstack, '');
      expectThat(toHex(td.rtmrs[3]) !== toHex(before.td.rtmrs[3]), 'RTMR3 is the same');
      const events = reading('event_log', () => eventLogFromJson(textMember(answer, 'event_log')));
      const last = events.filter(({ imr }) => imr === 3).at(-1);
      expectSame('Last event of register 3', last?.event, 'conformance');
      expectSame('Its payload', toHex(last?.eventPayload ?? new Uint8Array()), 'c0ffee');
    },
  },
  {
    id: 'agent.emit-event.reserved',
    checks: 'EmitEvent refuses names of the system, an empty or too long one, and too long a payload.',
    section: 'guest-agent.md 4.5',
    isExtension: true,
    run: async ({ dstack, emitEvents }) => {
      if (!emitEvents) throw new NotApplicable('needs --emit-events');
      const events = ['app-id', 'compose-hash', 'system-ready', '', 'x'.repeat(129)];
      for (const event of events)
        expectSame(
          `Status for "${event.slice(0, 20)}"`,
          (await refusal(dstack, '/EmitEvent', { event, payload: '' })).status,
          400,
        );
      const { status } = await refusal(dstack, '/EmitEvent', { event: 'a', payload: '00'.repeat(65_537) });
      expectSame('Status for a long payload', status, 400);
    },
  },
];

/** EmitEvent answers null. */
async function emit(dstack: Endpoint, event: string, payload: string): Promise<void> {
  const headers = { 'Content-Type': 'application/json' };
  const body = JSON.stringify({ event, payload });
  const answer = await exchange(dstack, { path: '/EmitEvent', headers, body });
  expectSame('Status of EmitEvent', answer.status, 200);
  expectSame('Answer of EmitEvent', new TextDecoder().decode(answer.body), 'null');
}
