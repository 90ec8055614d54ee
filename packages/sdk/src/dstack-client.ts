import { toHex } from '@dstack-cloud/encoding';
import { Answer } from './answers.ts';
import { findEndpoint } from './endpoint.ts';
import { DstackError } from './errors.ts';
import { replayRtmrs } from './replay-rtmrs.ts';
import { type CallOptions, Transport } from './transport.ts';
import type {
  AttestResponse,
  Data,
  EventLogEntry,
  GetKeyResponse,
  GetQuoteResponse,
  GetTlsKeyResponse,
  InfoResponse,
  KeyAlgorithm,
  SignAlgorithm,
  SignResponse,
  TcbInfo,
  TlsKeyOptions,
  VersionResponse,
} from './types.ts';

const MAX_REPORT_DATA = 64;
const REACHABLE_MS = 500;

/** Options of a client. */
export interface ClientOptions extends CallOptions {}

/** The agent of this machine: keys, evidence, certificates (docs/protocol/guest-agent.md section 3). */
export class DstackClient {
  protected readonly transport: Transport;

  /**
   * @param endpoint path of a Unix socket or http(s) URL; default DSTACK_SIMULATOR_ENDPOINT, then the first socket that exists
   * @throws DstackError `no-agent`
   */
  constructor(endpoint?: string, options: ClientOptions = {}) {
    this.transport = new Transport(findEndpoint(this.kind, endpoint), options);
  }

  protected get kind(): 'dstack' | 'tappd' {
    return 'dstack';
  }

  /** A key of this application: the same at each call and in each instance, and no other application's. */
  async getKey(
    path = '',
    purpose = '',
    algorithm: KeyAlgorithm = 'secp256k1',
    options?: CallOptions,
  ): Promise<GetKeyResponse> {
    const answer = await this.#call('GetKey', { path, purpose, algorithm }, options);
    return {
      __name__: 'GetKeyResponse',
      key: answer.bytes('key'),
      signature_chain: answer.byteLists('signature_chain'),
    };
  }

  /** A fresh TLS key with a certificate of this application's CA. */
  async getTlsKey(wanted: TlsKeyOptions = {}, options?: CallOptions): Promise<GetTlsKeyResponse> {
    const answer = await this.#call(
      'GetTlsKey',
      {
        subject: wanted.subject ?? '',
        alt_names: wanted.altNames ?? [],
        usage_ra_tls: wanted.usageRaTls ?? false,
        usage_server_auth: wanted.usageServerAuth ?? true,
        usage_client_auth: wanted.usageClientAuth ?? false,
        not_before: wanted.notBefore ?? null,
        not_after: wanted.notAfter ?? null,
        with_app_info: wanted.withAppInfo ?? false,
      },
      options,
    );
    return tlsKey(answer);
  }

  /** A TDX quote over at most 64 bytes, with the event log. Other platforms: `attest`. */
  async getQuote(reportData: Data, options?: CallOptions): Promise<GetQuoteResponse> {
    const answer = await this.#call('GetQuote', { report_data: reportDataHex(reportData) }, options);
    return quoteOf(answer);
  }

  /** Evidence of whatever platform this is, over at most 64 bytes. */
  async attest(reportData: Data, options?: CallOptions): Promise<AttestResponse> {
    const answer = await this.#call('Attest', { report_data: reportDataHex(reportData) }, options);
    return { attestation: answer.text('attestation') };
  }

  /** The same as bytes, which `verifyEvidence` takes. */
  async getAttestation(reportData: Data, options?: CallOptions): Promise<Uint8Array> {
    const answer = await this.#call('Attest', { report_data: reportDataHex(reportData) }, options);
    return answer.bytes('attestation');
  }

  /** Who this machine says it is. Nobody should believe it without evidence. */
  async info(options?: CallOptions): Promise<InfoResponse> {
    return infoOf(await this.#call('Info', {}, options));
  }

  async version(options?: CallOptions): Promise<VersionResponse> {
    const answer = await this.#call('Version', {}, options);
    return { version: answer.text('version'), rev: answer.text('rev') };
  }

  /** Extends RTMR3 by an event of the application's, which no later event undoes. Never sent twice. */
  async emitEvent(event: string, payload: Data, options?: CallOptions): Promise<void> {
    if (event === '') throw new DstackError('argument', 'The event needs a name');
    await this.transport.call('/EmitEvent', { event, payload: dataHex(payload) }, options, false);
  }

  /** Evidence of GPUs, collected during boot; empty without any. */
  async gpuInfo(options?: CallOptions): Promise<{ attestation: string }> {
    return { attestation: (await this.#call('GpuInfo', {}, options)).text('attestation') };
  }

  /** Signs with the application's signing key. */
  async sign(algorithm: SignAlgorithm, data: Data, options?: CallOptions): Promise<SignResponse> {
    const answer = await this.#call('Sign', { algorithm, data: dataHex(data) }, options);
    return {
      signature: answer.bytes('signature'),
      signature_chain: answer.byteLists('signature_chain'),
      public_key: answer.bytes('public_key'),
    };
  }

  async verify(
    algorithm: SignAlgorithm,
    data: Data,
    signature: Uint8Array,
    publicKey: Uint8Array,
    options?: CallOptions,
  ): Promise<{ valid: boolean }> {
    const body = {
      algorithm,
      data: dataHex(data),
      signature: toHex(signature),
      public_key: toHex(publicKey),
    };
    return { valid: (await this.#call('Verify', body, options)).flag('valid') };
  }

  /** Whether an agent answers within half a second. */
  async isReachable(): Promise<boolean> {
    try {
      await this.info({ timeoutMs: REACHABLE_MS, retries: 0 });
      return true;
    } catch {
      return false;
    }
  }

  /** Whether the agent answers, its version, and how long that took. */
  async health(options?: CallOptions): Promise<{ ok: true; version: string; latencyMs: number }> {
    const started = performance.now();
    const { version } = await this.version(options);
    return { ok: true, version, latencyMs: performance.now() - started };
  }

  /** Closes kept connections. */
  close(): void {
    this.transport.close();
  }

  async #call(method: string, body: object, options?: CallOptions): Promise<Answer> {
    return new Answer(method, await this.transport.call(`/${method}`, body, options));
  }
}

/** Reads the answer of GetTlsKey and DeriveKey. */
export function tlsKey(answer: Answer): GetTlsKeyResponse {
  const key = answer.text('key');
  return {
    __name__: 'GetTlsKeyResponse',
    key,
    certificate_chain: answer.texts('certificate_chain'),
    asUint8Array: (maxLength) => {
      const der = Buffer.from(key.replace(/-----[^-]+-----|\s/g, ''), 'base64');
      return new Uint8Array(der.subarray(0, maxLength ?? der.length));
    },
  };
}

/** Reads the answer of GetQuote and TdxQuote. */
export function quoteOf(answer: Answer): GetQuoteResponse {
  const { members } = answer;
  const optional = (name: string) => (typeof members[name] === 'string' ? (members[name] as string) : '');
  return {
    quote: answer.text('quote'),
    event_log: answer.text('event_log'),
    report_data: optional('report_data'),
    vm_config: optional('vm_config'),
    replayRtmrs: () => replayRtmrs(answer.json<EventLogEntry[]>('event_log')),
  };
}

/** Reads the answer of Info. */
export function infoOf(answer: Answer): InfoResponse {
  return { ...answer.members, tcb_info: answer.json<TcbInfo>('tcb_info') } as unknown as InfoResponse;
}

/** Texts are their UTF-8 bytes. */
export function dataHex(data: Data): string {
  return toHex(typeof data === 'string' ? new TextEncoder().encode(data) : data);
}

function reportDataHex(data: Data): string {
  const hex = dataHex(data);
  if (hex.length <= 2 * MAX_REPORT_DATA) return hex;
  const message = `Report data has ${hex.length / 2} bytes and at most ${MAX_REPORT_DATA} fit: hash it first`;
  throw new DstackError('argument', message);
}
