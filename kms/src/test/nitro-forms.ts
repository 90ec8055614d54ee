import { createHash } from 'node:crypto';
import { type Attestation, encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import type { ClientIdentity } from './ask.ts';
import { forgeCertificate } from './forge-certificate.ts';
import { type NsmChange, nsmForge } from './forge-nsm.ts';
import type { FullEvidence } from './recorded-full.ts';

type Change = Omit<Partial<NsmChange>, 'timestamp'> & { readonly age?: number };

const DEBUG_HASH = createHash('sha256').update(new Uint8Array(144)).digest('hex');
const named = (event: string, payload: string): Attestation['runtimeEvents'][number] => ({
  event,
  payload: fromHex(payload),
});
const hashConfig = (hash: string): string => JSON.stringify({ os_image_hash: hash });

function zeroPcrs(payload: Map<unknown, unknown>): void {
  const pcrs = payload.get('pcrs') as Map<number, Uint8Array>;
  for (const index of [0, 1, 2]) pcrs.set(index, new Uint8Array(48));
}

/** The enclaves of the larger recording, by what it says of each. */
const CHANGES: Readonly<Record<string, Change>> = {
  'app id 11x20 event': {},
  'same PCRs, app id 99x20 event': { events: [named('app-id', '99'.repeat(20))] },
  'app-id and instance-id events': {
    events: [named('app-id', '11'.repeat(20)), named('instance-id', '22'.repeat(20))],
  },
  'no app-id event': { events: [] },
  '19 byte app id': { events: [named('app-id', '11'.repeat(19))] },
  'debug enclave (PCR0-2 zero), config hash = SHA-256 of 144 zero bytes': {
    members: zeroPcrs,
    config: hashConfig(DEBUG_HASH),
  },
  'debug enclave, config hash 32 zero bytes': { members: zeroPcrs, config: hashConfig('00'.repeat(32)) },
  'debug enclave (PCR0-2 zero)': { members: zeroPcrs, config: hashConfig('00'.repeat(32)) },
  'config with another os_image_hash': { config: hashConfig('77'.repeat(32)) },
  'config claims another os_image_hash': { config: hashConfig('77'.repeat(32)) },
  'empty config': { config: '' },
  'config {}': { config: '{}' },
  'document timestamp one hour old': { age: 3_590 },
  'document timestamp 0': { members: (payload) => payload.set('timestamp', 0) },
  'document timestamp ten days ahead': { age: -864_000 },
  'module id without a dash': { members: (payload) => payload.set('module_id', 'nodash') },
  'no PCR2': { members: (payload) => (payload.get('pcrs') as Map<number, unknown>).delete(2) },
  'one PCR bit flipped': { document: flipPcr },
  'user_data differs from report_data': {
    members: (payload) => payload.set('user_data', new Uint8Array(64).fill(7)),
  },
};

/** Flips a bit in the first PCR, after signing. */
function flipPcr(document: Uint8Array): Uint8Array {
  const pcrs = utf8Index(document, 'pcrs');
  return document.map((byte, index) => (index === pcrs + 12 ? byte ^ 1 : byte));
}

function utf8Index(bytes: Uint8Array, text: string): number {
  const at = toHex(bytes).indexOf(Buffer.from(text).toString('hex'));
  if (at < 0 || utf8Text(bytes.slice(at / 2, at / 2 + text.length)) !== text) throw new Error(`no ${text}`);
  return at / 2;
}

/** Makes the client certificates of the recorded enclaves anew, each with a key of its own. */
export function nitroForms(
  { seed_hex: seed, clients }: FullEvidence,
  tempCa: P256Key,
): (what: string, now: number) => ClientIdentity {
  const recorded = clients.find(({ name }) => name === 'nitro')!;
  const forge = nsmForge(seed, fromHex(recorded.attestation_hex));
  return (what, now) => {
    const change = CHANGES[what];
    if (change === undefined) throw new Error(`no enclave "${what}"`);
    const key = generateP256Key();
    const reportData = ratlsReportData(key.spki);
    const { age = 0, ...rest } = change;
    const content = encodeAttestation(forge({ ...rest, timestamp: now - age, reportData }));
    return {
      cert: forgeCertificate(key, [{ oid: OID.attestation, content }], { issuerKey: tempCa }),
      key: p256KeyPem(key),
    };
  };
}
