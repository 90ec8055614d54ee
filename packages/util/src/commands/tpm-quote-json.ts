import type { TpmPlatform, TpmQuote } from '@dstack-cloud/attestation';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { UtilError } from '../errors.ts';

const PLATFORMS = ['dstack', 'gcp', 'nitro-enclave', 'aws-ec2'] as const;

/** The JSON form of a TPM quote, bytes in hex. */
export function tpmQuoteJson(quote: TpmQuote): object {
  return {
    message: toHex(quote.message),
    signature: toHex(quote.signature),
    pcr_values: quote.pcrValues.map(({ index, algorithm, value }) => ({
      index,
      algorithm,
      value: toHex(value),
    })),
    ak_cert: toHex(quote.akCert),
    platform: PLATFORMS[quote.platform],
    event_log: quote.eventLog.map(({ pcrIndex, digest }) => ({ pcr_index: pcrIndex, digest: toHex(digest) })),
  };
}

/** Reads that form. @throws UtilError */
export function parseTpmQuoteJson(text: string): TpmQuote {
  try {
    const value = JSON.parse(text) as Record<string, unknown>;
    const bytes = (member: unknown): Uint8Array => {
      if (typeof member !== 'string') throw new TypeError('a member that has to be hex is missing');
      return fromHex(member);
    };
    const list = (member: unknown): Record<string, unknown>[] => {
      if (Array.isArray(member) && member.length <= 16_384) return member as Record<string, unknown>[];
      throw new TypeError('a member that has to be a list is missing');
    };
    const platform = PLATFORMS.indexOf(value['platform'] as (typeof PLATFORMS)[number]);
    if (platform < 0) throw new TypeError(`platform ${JSON.stringify(value['platform'])} is unknown`);
    return {
      message: bytes(value['message']),
      signature: bytes(value['signature']),
      pcrValues: list(value['pcr_values']).map(({ index, algorithm, value: pcr }) => ({
        index: Number(index),
        algorithm: String(algorithm),
        value: bytes(pcr),
      })),
      akCert: bytes(value['ak_cert']),
      platform: platform as TpmPlatform,
      eventLog: list(value['event_log'] ?? []).map(({ pcr_index, digest }) => ({
        pcrIndex: Number(pcr_index),
        digest: bytes(digest),
      })),
    };
  } catch (cause) {
    throw new UtilError('Failed to parse quote JSON', cause);
  }
}
