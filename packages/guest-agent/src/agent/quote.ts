import { create } from '@bufbuild/protobuf';
import {
  type Attestation,
  encodeAttestationForAll,
  encodeAttestationV1,
  eventLogToJson,
  parseTdxQuote,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { type GetQuoteResponse, GetQuoteResponseSchema, RpcError, withJsonExtras } from '@dstack-cloud/prpc';
import type { Agent } from './agent.ts';
import { collectEvidence } from './collect-evidence.ts';
import { clientEventLog, tdxEvents } from './event-log.ts';

/** A TDX quote with its event log. */
export interface QuoteAndLog {
  readonly quote: Uint8Array;
  /** JSON text. */
  readonly eventLog: string;
  readonly attestation: Attestation;
}

/**
 * Quote over 64 bytes of report data.
 *
 * @throws RpcError on platforms without Intel TDX, and when the device fails
 */
export async function quoteAndLog(agent: Agent, reportData: Uint8Array): Promise<QuoteAndLog> {
  const attestation = await collectEvidence(agent, reportData, 'quote');
  const { quote } = attestation;
  if (!('quote' in quote)) {
    throw new RpcError('GetQuote requires Intel TDX; use Attest', { code: 'INVALID_ARGUMENT' });
  }
  const events = tdxEvents(attestation);
  return {
    quote: quote.quote,
    eventLog: agent.fixture ? eventLogToJson(events, { strip: false }) : clientEventLog(events),
    attestation,
  };
}

/**
 * GetQuote (docs/protocol/guest-agent.md section 4.3). The JSON form carries the registers as documented; `attestation`
 * is filled where the bare quote is not all the evidence.
 */
export async function getQuote(agent: Agent, reportData: Uint8Array): Promise<GetQuoteResponse> {
  const { quote, eventLog, attestation } = await quoteAndLog(agent, reportData);
  const whole = agent.fixture || attestation.quote.mode !== 'dstack-tdx';
  const response = create(GetQuoteResponseSchema, {
    quote,
    eventLog,
    reportData,
    vmConfig: agent.vmConfig,
    attestation: whole ? encodeAttestationV1(attestation) : new Uint8Array(0),
  });
  return withJsonExtras(response, { omitDefaults: ['attestation'], members: registers(quote) });
}

/** The versioned attestation of the platform over 64 bytes of report data. */
export async function attest(agent: Agent, reportData: Uint8Array): Promise<Uint8Array> {
  return encodeAttestationForAll(await collectEvidence(agent, reportData, 'attestation'));
}

function registers(quote: Uint8Array): Record<string, string> {
  const { td } = parseTdxQuote(quote);
  if (td === undefined) return {};
  const [rtmr0, rtmr1, rtmr2, rtmr3] = td.rtmrs;
  return {
    mrtd: toHex(td.mrTd),
    rtmr0: toHex(rtmr0),
    rtmr1: toHex(rtmr1),
    rtmr2: toHex(rtmr2),
    rtmr3: toHex(rtmr3),
  };
}
