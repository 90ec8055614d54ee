import {
  bootInfo,
  decodeAttestation,
  parseTdxQuote,
  type VerifiedAttestation,
} from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { fixture } from '@dstack-cloud/test/fixtures';

/** Evidence as if it had been verified: what these vectors say about it is arithmetic. */
function verifiedAs(members: Record<string, unknown>): VerifiedAttestation {
  return {
    simulated: true,
    tcbStatus: '',
    advisoryIds: [],
    runtimeEvents: [],
    config: '',
    rawDeviceId: new Uint8Array(16),
    ...members,
  } as unknown as VerifiedAttestation;
}

type Vector = { mrSystem: string; mrAggregated: string; bootSystem: string; bootAggregated: string };

function vectorOf(verified: VerifiedAttestation): Vector {
  const [now, boot] = [false, true].map((bootTime) => bootInfo(verified, { bootTime }));
  return {
    mrSystem: toHex(now!.mrSystem),
    mrAggregated: toHex(now!.mrAggregated),
    bootSystem: toHex(boot!.mrSystem),
    bootAggregated: toHex(boot!.mrAggregated),
  };
}

/** The original's simulator: bare TDX, nine runtime events, non-zero MRCONFIGID. */
export function simulatorVector(): Vector {
  const { quote, runtimeEvents, config } = decodeAttestation(fixture('simulator/attestation.bin'));
  if (quote.mode !== 'dstack-tdx') throw new Error('the simulator is on bare TDX');
  const { td } = parseTdxQuote(quote.quote);
  return vectorOf(
    verifiedAs({ mode: 'dstack-tdx', runtimeEvents, config, evidence: { kind: 'tdx', quoteVersion: 4, td } }),
  );
}

const PCRS = [
  'eb7d0dab08ff41546d7e5659aee883af7b32bb2e58e46815b719f9f7bfae7b880188a10d86317e6509923740526cf74a',
  '0343b056cd8485ca7890ddd833476d78460aed2aa161548e4e26bedf321726696257d623e8805f3f605946b3d8b0c6aa',
  'd7b0a76788c1be24898bd148117ea1239578ba0e72f5d87a33a6c6476026675b6f996940f062e0e3f0b5edd2ddf78811',
];

export function nitroVector(): Vector {
  const pcrs = new Map(PCRS.map((pcr, index) => [index, fromHex(pcr)]));
  const runtimeEvents = [{ event: 'app-id', payload: new Uint8Array(20).fill(0x11) }];
  const evidence = { kind: 'nitro', moduleId: 'i-0827e799ec9232d44-enc0', pcrs };
  return vectorOf(verifiedAs({ mode: 'dstack-nitro-enclave', runtimeEvents, evidence }));
}

export function gcpVector(): Vector {
  const bytes = (value: number, length: number): Uint8Array => new Uint8Array(length).fill(value);
  const none = new Uint8Array();
  const runtimeEvents = [
    { event: 'system-preparing', payload: none },
    { event: 'app-id', payload: bytes(0x11, 20) },
    { event: 'compose-hash', payload: bytes(0x33, 32) },
    { event: 'instance-id', payload: bytes(0x22, 20) },
    { event: 'boot-mr-done', payload: none },
    { event: 'os-image-hash', payload: bytes(0x77, 32) },
    { event: 'key-provider', payload: utf8('{"name":"kms","id":"00"}') },
    { event: 'system-ready', payload: none },
  ];
  const pcrs = new Map([
    [0, fromHex('0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802')],
    [2, bytes(0xaa, 32)],
  ]);
  const config = JSON.stringify({ os_image_hash: '77'.repeat(32) });
  return vectorOf(
    verifiedAs({ mode: 'dstack-gcp-tdx', runtimeEvents, config, evidence: { kind: 'gcp-tdx', pcrs } }),
  );
}
