import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { printable } from '@dstack-cloud/encoding';
import { LineBudget } from '@dstack-cloud/prpc';
import { openVsock } from '../open-vsock.ts';
import { parseProxyConfig } from './proxy-config.ts';
import { startVsockProxy } from './vsock-proxy.ts';

const USAGE = `Usage: dstack-vsock-proxy --config FILE

Carries the network of Nitro enclaves on their host: an HTTP CONNECT proxy for the targets that are allowed, and fixed
mappings in both directions. It sees TLS, and no key.

  -c, --config FILE  configuration (JSON), default /etc/dstack/vsock-proxy.json
      --check        read the configuration and end
  -h, --help         print this text

Example of a configuration:
  {"connect": {"vsock_port": 3128, "allow": ["kms.example.com:12001"]},
   "mappings": [{"direction": "ingress", "listen": "0.0.0.0:443", "enclave_cid": 16, "enclave_port": 443}]}
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string', short: 'c', default: '/etc/dstack/vsock-proxy.json' },
      check: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const config = parseProxyConfig(await readFile(values.config, 'utf8'));
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
  process.stdout.write('dstack-vsock-proxy ready: see the log for refusals\n');
  await stopped;
  await proxy.close();
  budget.flush();
}

main().catch((error: unknown) => {
  process.stderr.write(`Error: ${printable(error instanceof Error ? error.message : String(error))}\n`);
  process.exitCode = 1;
});
