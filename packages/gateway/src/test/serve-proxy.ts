/**
 * The listener for users as a process of its own, for load tests: reads {base, instances, filler, cert, key} from standard input,
 * writes {port}. One source may load it: its limits per network are lifted. Nothing outside of tests starts it.
 */
import { CONNECTION_LIMITS } from '@dstack-cloud/prpc';
import type { Instance } from '../routes/instance.ts';
import { APP, BASE, instance, startLab } from './lab.ts';

type Settings = {
  /** Addresses of the instances of application `APP`. */
  readonly addresses: readonly string[];
  /** So many other instances are in the table. */
  readonly filler: number;
  readonly cert: string;
  readonly key: string;
};

const MANY = 1_000_000_000;

process.stdin.once('data', (data: Buffer) => void serve(data));

async function serve(data: Buffer): Promise<void> {
  const { addresses, filler, cert, key } = JSON.parse(data.toString('utf8')) as Settings;
  const handshakes = new Map<string, number>();
  const lab = await startLab({
    handshakes: () => handshakes,
    connections: {
      ...CONNECTION_LIMITS,
      max: 200_000,
      maxPerNetwork: 200_000,
      maxSilent: 200_000,
      maxSilentPerNetwork: 200_000,
      costPerMinute: MANY,
      costBurst: MANY,
    },
    timeouts: {
      handshake: 5_000,
      proxyHeader: 5_000,
      connect: 5_000,
      dns: 5_000,
      idle: 600_000,
      total: 3_600_000,
    },
    onRecord: () => undefined,
  });
  lab.certificates.set(BASE, { certChain: cert, key });
  const add = (one: Instance): void => {
    lab.table.put(one);
    handshakes.set(one.publicKey, Math.floor(Date.now() / 1000));
  };
  for (const [n, ip] of addresses.entries()) add(instance(n + 1, { ip }));
  for (let n = 0; n < filler; n++)
    add(instance(n + 1_000, { appId: `${n >> 2}`.padStart(APP.length, 'f'), ip: '127.1.0.250' }));
  console.log(JSON.stringify({ port: lab.port }));
}
// The bench owns this process: when its end of the pipe closes, so does the server.
process.stdin.once('end', () => process.exit(0));
