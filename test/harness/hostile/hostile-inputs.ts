/** Inputs that cost their sender little, and would cost the one who reads them much. */
import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { type Attestation, encodeAttestation } from '@dstack-cloud/attestation';
import { concatBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, OID, signCsr } from '@dstack-cloud/ra-tls';
import { forgedIdentity } from '../forged-certificate.ts';
import type { WatchedProgram } from './watched-program.ts';

/** Evidence of the right form that nothing stands behind. */
const HOLLOW: Attestation = {
  quote: { mode: 'dstack-tdx', quote: new Uint8Array(), eventLog: [] },
  runtimeEvents: [],
  reportData: new Uint8Array(64),
  config: '',
};

/** A self-signed certificate of some kilobytes whose event log has four thousand events, a megabyte of JSON. */
export async function packedIdentity(): Promise<{ cert: string; key: string }> {
  const event = { imr: 3, event_type: 1, digest: '00'.repeat(48), event: 'x', event_payload: '' };
  const log = JSON.stringify(Array.from({ length: 4_000 }, () => event));
  return forgedIdentity(generateP256Key(), [], undefined, [
    [OID.tdxQuote, new Uint8Array(4_000)],
    [OID.tdxEventLog, concatBytes(utf8('ELGZv1'), new Uint8Array(gzipSync(log)))],
  ]);
}

/** A MessagePack map of so many keys of four letters, each nil. */
function manyKeys(count: number): Uint8Array {
  const bytes = new Uint8Array(5 + 6 * count);
  bytes.set([0xdf, count >>> 24, (count >>> 16) & 0xff, (count >>> 8) & 0xff, count & 0xff]);
  for (let index = 0; index < count; index++) {
    bytes.set([0xa4, ...utf8(index.toString(36).padStart(4, '0')), 0xc0], 5 + 6 * index);
  }
  return bytes;
}

/** The body of a SignCert request, rightly signed, with a map of 130,000 keys where the evidence should be. */
export function csrOfManyKeys(): string {
  const key = generateP256Key();
  const csr = encodeCsrV2({
    confirm: CONFIRM_WORD,
    pubkey: key.spki,
    config: {
      subject: 'app.example',
      subjectAltNames: [],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: false,
      extAppInfo: false,
    },
    attestation: HOLLOW,
  });
  const head = csr.subarray(0, csr.length - encodeAttestation(HOLLOW).length);
  const whole = concatBytes(head, manyKeys(130_000));
  return JSON.stringify({ api_version: 2, csr: toHex(whole), signature: toHex(signCsr(whole, key)) });
}

/** Resident memory of a program and the processes that it started, in bytes. */
export function memoryOf({ process: { pid } }: WatchedProgram): number {
  return family(String(pid)).reduce((sum, one) => {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${one}/status`, 'utf8'))?.[1];
    return sum + Number(kilobytes ?? 0) * 1024;
  }, 0);
}

function family(pid: string): string[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );
  return [pid, ...children.flatMap(family)];
}
