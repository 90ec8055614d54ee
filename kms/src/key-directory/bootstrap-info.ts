import { fromHex, toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import type { BootstrapInfo } from './kms-keys.ts';

const hex = z.string().regex(/^(0x)?([0-9a-fA-F]{2})*$/);
const schema = z.object({ ca_pubkey: hex, k256_pubkey: hex, attestation: hex.default('') });

/** The text of `bootstrap-info.json`. */
export function writeBootstrapInfo(info: BootstrapInfo): string {
  return JSON.stringify({
    ca_pubkey: toHex(info.caPubkey),
    k256_pubkey: toHex(info.k256Pubkey),
    attestation: toHex(info.attestation),
  });
}

/** Reads `bootstrap-info.json`; undefined when it is not readable, as the original treats it (section 2.4). */
export function readBootstrapInfo(text: string): BootstrapInfo | undefined {
  try {
    const info = schema.parse(JSON.parse(text));
    return {
      caPubkey: fromHex(info.ca_pubkey, { prefix: 'allow' }),
      k256Pubkey: fromHex(info.k256_pubkey, { prefix: 'allow' }),
      attestation: fromHex(info.attestation, { prefix: 'allow' }),
    };
  } catch {
    return undefined;
  }
}
