/** Gateways as programs, each in a network namespace of its own, with one etcd. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createPrpcClient, httpTransport, gateway as messages, type PrpcClient } from '@dstack-cloud/prpc';
import type { EtcdLab } from '@dstack-cloud/test/etcd-lab';
import { BASE, GATEWAY, type KeyService, sh } from './gateway-lab.ts';

const MAIN = fileURLToPath(new URL('../../packages/gateway/src/main.ts', import.meta.url));

export type LabNode = {
  /** Address in the network of all nodes. */
  readonly address: string;
  readonly rpcPort: number;
  readonly proxyPort: number;
  readonly lines: string[];
  operator(): PrpcClient<typeof messages.Admin>;
  /** The network as a pulled cable leaves it. */
  cut(): void;
  heal(): void;
  /** As a power cut does: the program, and what it started. */
  kill(): Promise<void>;
  /** @returns its exit code */
  stop(): Promise<number | null>;
  /** Starts the program, over what it left. */
  start(): Promise<void>;
  /** Addresses of its tunnels, sorted. */
  tunnels(): string[];
  remove(): Promise<void>;
};

export type Network = {
  readonly tag: string;
  readonly net: string;
  /** Addresses of ours besides `.1`. */
  readonly sources: readonly string[];
  close(): void;
};

let networks = 0;

/** A bridge with our own address, `.1`, and so many more, from `.30`. */
export function makeNetwork(more = 0): Network {
  const tag = `n${networks}${process.pid}`;
  const net = `10.${170 + (process.pid % 20)}.${networks++}`;
  sh(`ip link add ${tag}b type bridge && ip address add ${net}.1/24 dev ${tag}b && ip link set ${tag}b up`);
  const sources = Array.from({ length: more }, (_, n) => `${net}.${n + 30}`);
  for (const source of sources) sh(`ip address add ${source}/24 dev ${tag}b`);
  return { tag, net, sources, close: () => void sh(`ip link delete ${tag}b; true`) };
}

export type NodeOptions = {
  /** From 0. */
  readonly number: number;
  readonly folder: string;
  readonly network: Network;
  readonly kms: KeyService;
  /** Without it the node has a state of its own. */
  readonly etcd?: Pick<EtcdLab, 'options' | 'files'>;
  /** Lines of `[core.proxy]`; without any, a certificate of the key service. */
  readonly proxy?: string;
  readonly tables?: string;
  readonly env?: Record<string, string>;
};

/** A gateway, not started yet. */
export function makeNode(options: NodeOptions): LabNode {
  const { number: n, network, kms, etcd, tables = '', env = {} } = options;
  const { tag, net } = network;
  const folder = join(options.folder, `node${n}`);
  const at = (file: string): string => join(folder, file);
  const [namespace, outer, inner, wg] = ['s', 'o', 'i', 'w'].map((letter) => `${tag}${letter}${n}`) as [
    string,
    string,
    string,
    string,
  ];
  const address = `${net}.${n + 10}`;
  mkdirSync(at('state'), { recursive: true, mode: 0o700 });
  writeFileSync(at('kms.pem'), kms.root);
  for (const [name, pair] of Object.entries({
    rpc: kms.server('localhost', GATEWAY),
    apps: kms.server(`*.${BASE}`, GATEWAY),
  })) {
    writeFileSync(at(`${name}.pem`), pair.cert);
    writeFileSync(at(`${name}.key`), pair.key, { mode: 0o600 });
  }
  const { proxy = `base_domain = "${BASE}"\ncert_chain = "apps.pem"\ncert_key = "apps.key"` } = options;
  writeFileSync(
    at('gateway.toml'),
    `log_level = "debug"
address = "0.0.0.0"
port = 8010
[tls]
key = "rpc.key"
certs = "rpc.pem"
mutual = { ca_certs = "kms.pem" }
[core]
state_path = "state"
[core.admin]
enabled = true
${etcd === undefined ? '' : etcdTable(etcd)}
[core.proxy]
listen_addr = "0.0.0.0"
listen_port = 8443
${proxy}
[core.wg]
interface = "${wg}"
driver = "userspace"
endpoint = "${address}:51820"
ip = "10.237.0.${n + 1}/16"
reserved_net = ["10.237.0.0/27"]
client_ip_range = "10.237.${16 * (n + 1)}.0/24"
${tables}
`,
  );
  sh(`ip netns add ${namespace}
    ip link add ${outer} type veth peer name ${inner} netns ${namespace}
    ip link set ${outer} master ${tag}b && ip link set ${outer} up
    ip -n ${namespace} address add ${address}/24 dev ${inner} && ip -n ${namespace} link set ${inner} up && ip -n ${namespace} link set lo up`);
  const lines: string[] = [];
  let child: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    const node = [process.execPath, '--import', 'tsx', '-C', '@dstack/source', MAIN];
    const started = spawn('ip', ['netns', 'exec', namespace, ...node, '--config', at('gateway.toml')], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    child = started;
    const up = new Promise<void>((resolve, reject) => {
      for (const stream of [started.stdout!, started.stderr!]) {
        createInterface({ input: stream }).on('line', (line) => {
          lines.push(line);
          if (line.includes('"Listening"')) resolve();
        });
      }
      started.once('exit', (code) => reject(new Error(`Node ${n} ended with ${code}: ${lines.at(-1)}`)));
    });
    await up;
  };
  const ended = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> => {
    if (child === undefined) return null;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, 'exit');
    }
    return child.exitCode;
  };
  const kill = async (): Promise<void> => {
    const pid = child?.pid;
    const started = pid === undefined ? [] : childrenOf(pid);
    await ended('SIGKILL');
    // wireguard-go would be left behind.
    for (const one of started) process.kill(one, 'SIGKILL');
  };
  return {
    address,
    rpcPort: 8010,
    proxyPort: 8443,
    lines,
    operator: () => operatorAt(at('state/admin.sock')),
    cut: () => void sh(`ip link set ${outer} down`),
    heal: () => void sh(`ip link set ${outer} up`),
    kill,
    stop: () => ended('SIGTERM'),
    start,
    tunnels: () =>
      sh(`ip netns exec ${namespace} wg show ${wg} allowed-ips`)
        .split('\n')
        .map((line) => line.split('\t')[1] ?? '')
        .sort(),
    remove: async () => {
      await ended('SIGTERM');
      sh(`ip link delete ${outer}; ip netns delete ${namespace}; true`);
    },
  };
}

function etcdTable({ options, files }: Pick<EtcdLab, 'options' | 'files'>): string {
  return `[core.etcd]
endpoints = ${JSON.stringify(options.endpoints)}
ca = "${files.ca}"
cert = "${files.cert}"
key = "${files.key}"`;
}

function operatorAt(socketPath: string): PrpcClient<typeof messages.Admin> {
  const transport = httpTransport({ socketPath, baseUrl: 'http://localhost/prpc' });
  return createPrpcClient(messages.Admin, transport);
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}
