import type { IncomingMessage } from 'node:http';
import { AttestationError, reportData } from '@dstack-cloud/attestation';
import { implement, RpcError, type ServiceImplementation, Tappd } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { chainedKey } from '../agent/app-keys.ts';
import { info } from '../agent/info.ts';
import { quoteAndLog } from '../agent/quote.ts';
import { derivedTlsKey } from '../agent/tls-key.ts';
import { REVISION, VERSION } from '../version.ts';

/** Tag of report data when the caller gives no prefix (docs/protocol/guest-agent.md section 4.4). */
const DEFAULT_PREFIX = 'app-data';

/** The legacy service of tappd.sock. */
export function tappdService(agent: Agent): ServiceImplementation<IncomingMessage> {
  return implement(Tappd)<IncomingMessage>({
    DeriveKey: (request) =>
      derivedTlsKey(agent, request.path, request.randomSeed, {
        subject: request.subject,
        altNames: request.altNames,
        usageRaTls: request.usageRaTls,
        usageServerAuth: request.usageServerAuth,
        usageClientAuth: request.usageClientAuth,
        withAppInfo: false,
      }),
    DeriveK256Key: ({ path, purpose, algorithm }) => {
      const { key, signatureChain } = chainedKey(agent, path, purpose, algorithm);
      return { k256Key: key, k256SignatureChain: [...signatureChain] };
    },
    TdxQuote: (request) => hashedQuote(agent, request.reportData, request.hashAlgorithm, request.prefix),
    RawQuote: (request) => hashedQuote(agent, request.reportData, 'raw', ''),
    Info: () => info(agent, 'inside'),
    Version: () => ({ version: VERSION, rev: REVISION }),
  });
}

async function hashedQuote(
  agent: Agent,
  content: Uint8Array,
  algorithm: string,
  prefix: string,
): Promise<{ quote: Uint8Array; eventLog: string; hashAlgorithm: string; prefix: string }> {
  const hash = algorithm === '' ? 'sha512' : algorithm;
  const tag = hash === 'raw' ? '' : prefix || DEFAULT_PREFIX;
  const { quote, eventLog } = await quoteAndLog(agent, hashed(tag, content, hash));
  return { quote, eventLog, hashAlgorithm: hash, prefix: tag };
}

function hashed(tag: string, content: Uint8Array, hash: string): Uint8Array {
  try {
    return reportData({ tag, content, hash });
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    const text = cause.code === 'unsupported' ? 'invalid hash algorithm' : 'invalid content length';
    throw new RpcError(text, { code: 'INVALID_ARGUMENT', cause });
  }
}
