import { Answer } from './answers.ts';
import { DstackClient, dataHex, infoOf, quoteOf, tlsKey } from './dstack-client.ts';
import { DstackError } from './errors.ts';
import type { CallOptions } from './transport.ts';
import type { Data, GetQuoteResponse, GetTlsKeyResponse, InfoResponse } from './types.ts';

const RAW_BYTES = 64;

/** Hashes of the content that `tdxQuote` knows; `raw` for none. */
export type QuoteHash =
  | 'sha256'
  | 'sha384'
  | 'sha512'
  | 'sha3-256'
  | 'sha3-384'
  | 'sha3-512'
  | 'keccak256'
  | 'keccak384'
  | 'keccak512'
  | 'raw';

/** The agent by its older socket, tappd.sock. It has all methods of `DstackClient` too. */
export class TappdClient extends DstackClient {
  protected override get kind(): 'dstack' | 'tappd' {
    return 'tappd';
  }

  /** @deprecated `getKey` gives keys, `getTlsKey` certificates. */
  async deriveKey(
    path = '',
    subject: string = path,
    altNames: readonly string[] = [],
    options?: CallOptions,
  ): Promise<GetTlsKeyResponse> {
    return tlsKey(await this.#call('DeriveKey', { path, subject, alt_names: altNames }, options));
  }

  /** @deprecated Hashes the content under a tag; `getQuote` takes report data as they are. */
  async tdxQuote(
    content: Data,
    hash: QuoteHash = 'sha512',
    options?: CallOptions,
  ): Promise<GetQuoteResponse> {
    let hex = dataHex(content);
    if (hash === 'raw') {
      if (hex.length > 2 * RAW_BYTES)
        throw new DstackError(
          'argument',
          `Raw report data has ${hex.length / 2} bytes and at most ${RAW_BYTES} fit`,
        );
      hex = hex.padStart(2 * RAW_BYTES, '0');
    }
    return quoteOf(await this.#call('TdxQuote', { report_data: hex, hash_algorithm: hash }, options));
  }

  override async info(options?: CallOptions): Promise<InfoResponse> {
    return infoOf(await this.#call('Info', {}, options));
  }

  async #call(method: string, body: object, options?: CallOptions): Promise<Answer> {
    return new Answer(method, await this.transport.call(`/prpc/Tappd.${method}`, body, options));
  }
}
