import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { ByteWriter, decodeCbor, EncodingError, encodeCbor } from '@dstack-cloud/encoding';
import { listenOnSocket, type SocketServer } from '../tsm/socket-server.ts';
import type { NitroPcr, SimulatedNitro } from './nitro-platform.ts';

const MAX_REQUEST = 0x1000;
const RANDOM_BYTES = 256;

export interface NsmEndpointOptions {
  readonly socketPath: string;
  /** Milliseconds; default the wall clock. */
  readonly now?: () => number;
}

type NsmError = 'InvalidArgument' | 'InvalidIndex' | 'ReadOnlyIndex' | 'InvalidOperation' | 'InputTooLarge';

/**
 * Serves a simulated security module on a unix socket: the CBOR of /dev/nsm, each message after its length (u32 BE).
 * @throws SimulatorError `listen`
 */
export async function nsmEndpoint(nitro: SimulatedNitro, options: NsmEndpointOptions): Promise<SocketServer> {
  const now = options.now ?? Date.now;
  return await listenOnSocket(options.socketPath, (socket) => serve(socket, nitro, now));
}

function serve(socket: Socket, nitro: SimulatedNitro, now: () => number): void {
  let received: Uint8Array = new Uint8Array();
  socket.on('data', (chunk) => {
    received = new Uint8Array(Buffer.concat([received, chunk as Buffer]));
    while (received.length >= 4) {
      const length = new DataView(received.buffer, received.byteOffset).getUint32(0);
      if (length > MAX_REQUEST) return void socket.destroy();
      if (received.length < length + 4) return;
      const answer = encodeCbor(answerRequest(received.subarray(4, length + 4), nitro, now()));
      socket.write(new ByteWriter().u32be(answer.length).bytes(answer).finish());
      received = received.slice(length + 4);
    }
  });
}

/** One request, as the driver answers it (docs/protocol/evidence.md section 12.5). */
export function answerRequest(request: Uint8Array, nitro: SimulatedNitro, now: number): unknown {
  let value: unknown;
  try {
    value = decodeCbor(request, { indefinite: true });
  } catch (error) {
    if (error instanceof EncodingError) return failure('InvalidArgument');
    throw error;
  }
  if (value === 'DescribeNSM') return describeNsm(nitro);
  if (value === 'GetRandom') return { GetRandom: { random: new Uint8Array(randomBytes(RANDOM_BYTES)) } };
  if (!(value instanceof Map) || value.size !== 1) return failure('InvalidArgument');
  const [[name, args]] = [...value] as [[unknown, unknown]];
  if (!(args instanceof Map)) return failure('InvalidArgument');
  const fields = args as Map<unknown, unknown>;
  switch (name) {
    case 'Attestation':
      return attestation(fields, nitro, now);
    case 'DescribePCR':
      return withPcr(fields, nitro, ({ value: data, locked: lock }) => ({ DescribePCR: { lock, data } }));
    case 'ExtendPCR':
      return withPcr(fields, nitro, (pcr) => extend(fields, pcr));
    case 'LockPCR':
      return withPcr(fields, nitro, (pcr) => {
        pcr.locked = true;
        return 'LockPCR';
      });
    case 'LockPCRs':
      return lockRange(fields, nitro);
    default:
      return failure('InvalidOperation');
  }
}

function attestation(fields: Map<unknown, unknown>, nitro: SimulatedNitro, now: number): unknown {
  const optional = (name: string, max: number): Uint8Array | null | NsmError => {
    const data = fields.get(name) ?? null;
    if (data === null) return null;
    if (!(data instanceof Uint8Array)) return 'InvalidArgument';
    return data.length > max ? 'InputTooLarge' : data;
  };
  const [userData, nonce, publicKey] = [
    optional('user_data', 512),
    optional('nonce', 512),
    optional('public_key', 1024),
  ];
  if (typeof userData === 'string') return failure(userData);
  if (typeof nonce === 'string') return failure(nonce);
  if (typeof publicKey === 'string') return failure(publicKey);
  return { Attestation: { document: nitro.document({ userData, nonce, publicKey }, now) } };
}

function withPcr(
  fields: Map<unknown, unknown>,
  nitro: SimulatedNitro,
  use: (pcr: NitroPcr) => unknown,
): unknown {
  const pcr = nitro.pcrs[Number(fields.get('index'))];
  return pcr ? use(pcr) : failure('InvalidIndex');
}

function extend(fields: Map<unknown, unknown>, pcr: NitroPcr): unknown {
  const data = fields.get('data');
  if (!(data instanceof Uint8Array)) return failure('InvalidArgument');
  if (pcr.locked) return failure('ReadOnlyIndex');
  pcr.value = new Uint8Array(createHash('sha384').update(pcr.value).update(data).digest());
  return { ExtendPCR: { data: pcr.value } };
}

function lockRange(fields: Map<unknown, unknown>, nitro: SimulatedNitro): unknown {
  const range = fields.get('range');
  if (typeof range !== 'number' || range < 0 || range > nitro.pcrs.length) return failure('InvalidArgument');
  for (const pcr of nitro.pcrs.slice(0, range)) pcr.locked = true;
  return 'LockPCRs';
}

function describeNsm(nitro: SimulatedNitro): unknown {
  return {
    DescribeNSM: {
      version_major: 1,
      version_minor: 0,
      version_patch: 0,
      module_id: nitro.moduleId,
      max_pcrs: nitro.pcrs.length,
      locked_pcrs: nitro.pcrs.flatMap(({ locked }, i) => (locked ? [i] : [])),
      digest: 'SHA384',
    },
  };
}

function failure(error: NsmError): unknown {
  return { Error: error };
}
