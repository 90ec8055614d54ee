import { createReadStream } from 'node:fs';
import { parseArgs } from 'node:util';
import { printable } from '@dstack-cloud/encoding';
import { LineBudget } from '@dstack-cloud/prpc';
import { collectBytes, errorChain } from '@dstack-cloud/runtime';
import { VsockError } from '../errors.ts';
import { openVsock } from '../open-vsock.ts';
import { MAX_CONFIG_BYTES, parseProxyConfig } from './proxy-config.ts';
import { startVsockProxy } from './vsock-proxy.ts';

const USAGE = `Usage: dstack-vsock-proxy --config FILE

Carries the network of Nitro enclaves on their host: an HTTP CONNECT proxy for the targets that are allowed, and fixed
mappings in both directions. It sees TLS, and no key.

  -c, --config FILE  configuration (JSON), default /etc/dstack/vsock-proxy.json
      --check        check the configuration and exit
  -V, --version      print the version
  -h, --help         print this text

Example of a configuration:
  {"connect": {"vsock_port": 3128, "allow": ["kms.example.com:12001"]},
   "mappings": [{"direction": "ingress", "listen": "0.0.0.0:443", "enclave_cid": 16, "enclave_port": 443}]}

Exit codes: 0 ended by SIGTERM or SIGINT, 1 the configuration or an address cannot be used, 2 wrong usage
`;
const USAGE_ERROR = 2;

async function main(): Promise<void> {
  const values = argumentsOf();
  if (values.help) return void process.stdout.write(USAGE);
  if (values.version) return void process.stdout.write('dstack-vsock-proxy 0.1.0\n');
  const config = parseProxyConfig(await readConfig(values.config));
  if (values.check) return void process.stdout.write(`${printable(values.config)} can be used\n`);
  const say = (line: object): void => void process.stderr.write(`${printable(JSON.stringify(line))}\n`);
  const budget = new LineBudget((held) =>
    say({ ...held, level: 'warn', held_back: held.message, message: 'log lines held back' }),
  );
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  const proxy = await startVsockProxy({
    config,
    vsock: openVsock(config.vsock),
    log: (message, { source, reason }) => {
      if (budget.takes(message, source, reason)) say({ level: 'warn', message, source, reason });
    },
  });
  const targets = config.connect?.allow.length ?? 0;
  process.stdout.write(
    `dstack-vsock-proxy ready: ${targets} allowed targets, ${config.mappings.length} mappings\n`,
  );
  await stopped;
  await proxy.close();
  budget.flush();
}

function argumentsOf(): {
  readonly config: string;
  readonly check?: boolean;
  readonly help?: boolean;
  readonly version?: boolean;
} {
  try {
    return parseArgs({
      options: {
        config: { type: 'string', short: 'c', default: '/etc/dstack/vsock-proxy.json' },
        check: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'V' },
      },
    }).values;
  } catch (error) {
    process.stderr.write(`Error: ${printable((error as Error).message)}\n\nSee dstack-vsock-proxy --help\n`);
    process.exit(USAGE_ERROR);
  }
}

async function readConfig(path: string): Promise<string> {
  try {
    const tooLong = (): Error => new Error(`it is larger than ${MAX_CONFIG_BYTES} bytes`);
    return Buffer.from(await collectBytes(createReadStream(path), MAX_CONFIG_BYTES, tooLong)).toString();
  } catch (cause) {
    throw new VsockError('bad-config', `The configuration ${path} cannot be read`, { cause });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`Error: ${printable(errorChain(error))}\n`);
  process.exitCode = 1;
});
