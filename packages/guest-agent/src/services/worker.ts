import type { IncomingMessage } from 'node:http';
import { padRight, toBase64Url, utf8 } from '@dstack-cloud/encoding';
import { implement, memoizeEncoding, RpcError, type ServiceImplementation, Worker } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { signingKey } from '../agent/app-keys.ts';
import { info } from '../agent/info.ts';
import { REPORT_DATA_LENGTH } from '../agent/padded-report-data.ts';
import { getQuote } from '../agent/quote.ts';
import type { PublicEvidence } from '../public/public-evidence.ts';
import { REVISION, VERSION } from '../version.ts';

/** Service `Worker` of the external listener: what anybody on the network may ask. */
export function workerService(
  agent: Agent,
  evidence: PublicEvidence,
): ServiceImplementation<IncomingMessage> {
  return implement(Worker)<IncomingMessage>({
    Info: () => info(agent, 'outside'),
    Version: () => ({ version: VERSION, rev: REVISION }),
    GetAttestationForAppKey: ({ algorithm }, request) => {
      const data = appKeyReportData(agent, algorithm);
      // The data is of the application's few keys, never of the caller.
      const make = async () => memoizeEncoding(await getQuote(agent, data));
      return evidence.shared(`app key ${toBase64Url(data)}`, request, make);
    },
  });
}

/**
 * Report data that binds the application's signing key: a tag and the key in base64url, padded
 * (docs/protocol/guest-agent.md section 4.7).
 *
 * @throws RpcError `Unsupported algorithm`
 */
function appKeyReportData(agent: Agent, algorithm: string): Uint8Array {
  if (algorithm === 'secp256k1_prehashed') {
    throw new RpcError('Unsupported algorithm', { code: 'INVALID_ARGUMENT' });
  }
  const { publicKey } = signingKey(agent, algorithm);
  const tag = publicKey.length === 32 ? 'dip1::ed25519-pk:' : 'dip1::secp256k1c-pk:';
  return padRight(utf8(`${tag}${toBase64Url(publicKey)}`), REPORT_DATA_LENGTH);
}
