import { printable } from '@dstack-cloud/encoding';
import { openVsock, parseVsockAddress } from '@dstack-cloud/vsock';
import { type Command, requiredText, textOf } from '../command-line/command.ts';
import { parseArguments } from '../command-line/parse.ts';
import { printableReport, UtilError } from '../errors.ts';
import { appIdArgument } from '../hex-argument.ts';
import { KEY_FILE } from '../keys/key-file.ts';
import { thisMachine } from '../machine.ts';
import { VERSION } from '../version.ts';
import { thisEnclave } from './enclave-host.ts';
import { parseIngress } from './ingress.ts';
import { requireFilled, runEnclave } from './run-enclave.ts';

const RUN: Command = {
  name: 'dstack-enclave-init',
  about: 'Run a program in a Nitro enclave with its network and its keys',
  trailing: '-- PROGRAM [ARGUMENTS]...',
  options: [
    { name: 'kms-url', value: 'KMS_URL', help: 'KMS server URL', required: true },
    { name: 'app-id', value: 'APP_ID', help: 'Application ID (20 bytes in hex)', required: true },
    {
      name: 'root-ca',
      value: 'ROOT_CA',
      help: 'Root CA certificate of the KMS (ca_cert of GetTempCaCert, PEM), or a bundle with it',
      required: true,
    },
    { name: 'proxy', value: 'CID:PORT', help: 'CONNECT proxy of the parent', default: '3:3128' },
    {
      name: 'relay-port',
      value: 'PORT',
      help: 'Port of 127.0.0.1 for the same proxy',
      default: '3128',
      isNumber: true,
    },
    {
      name: 'ingress',
      value: 'PORTS',
      help: 'vsock ports that lead to TCP ports of the program: 443:8443,8080',
    },
    { name: 'keys-file', value: 'FILE', help: 'File for the keys, mode 0600', default: KEY_FILE },
    {
      name: 'agent-socket',
      value: 'PATH',
      help: 'Socket of the guest agent, for SDKs',
      default: '/var/run/dstack.sock',
    },
    { name: 'no-agent', help: 'Serve no guest agent' },
    { name: 'keys-env', value: 'NAME', help: 'Variable that gets the keys, instead of the file' },
    {
      name: 'report-port',
      value: 'PORT',
      help: 'vsock port of the parent that is told the exit code',
      default: '9001',
      isNumber: true,
    },
    { name: 'heartbeat', help: 'Send the heartbeat that nitro-cli waits for (the init of AWS does)' },
  ],
  examples: `  dstack-enclave-init --kms-url https://kms.example.com:12001 --app-id 0x… --root-ca /app/root_ca.pem -- /app/server
`,
};

async function main(): Promise<number> {
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  const [own, command] = end < 0 ? [args, []] : [args.slice(0, end), args.slice(end + 1)];
  const isVersion = own.includes('--version');
  const parsed = isVersion ? undefined : parseArguments(RUN, own, VERSION);
  if (parsed === undefined) process.stdout.write(`${RUN.name} ${VERSION}\n`);
  else if (parsed.kind === 'page') {
    (parsed.isError ? process.stderr : process.stdout).write(parsed.text);
    return parsed.isError ? 2 : 0;
  }
  if (parsed?.kind !== 'run') return 0;
  if (command.length === 0)
    throw new UtilError(
      'no program to run: name it after --, as in dstack-enclave-init OPTIONS -- /app/server',
    );
  const { values } = parsed;
  const filled = (name: string): string => requireFilled(name, requiredText(values, name));
  const keysVariable = textOf(values, 'keys-env');
  if (keysVariable !== undefined && !/^[A-Za-z_][A-Za-z0-9_]*$/.test(keysVariable))
    throw new UtilError(`--keys-env ${JSON.stringify(keysVariable)} is not the name of a variable`);
  const relayPort = Number(requiredText(values, 'relay-port'));
  if (relayPort < 1 || relayPort > 65_535) throw new UtilError(`--relay-port ${relayPort} is not a TCP port`);
  const options = {
    kmsUrl: filled('kms-url'),
    appId: appIdArgument(filled('app-id')),
    rootCa: requiredText(values, 'root-ca'),
    proxy: parseVsockAddress(requiredText(values, 'proxy')),
    relay: { address: '127.0.0.1', port: relayPort },
    keysFile: requiredText(values, 'keys-file'),
    keysVariable,
    agentSocket: values['no-agent'] === true ? undefined : requiredText(values, 'agent-socket'),
    ingress: parseIngress(textOf(values, 'ingress')),
    heartbeat: values['heartbeat'] === true,
    reportPort: Number(requiredText(values, 'report-port')),
    command,
    machine: thisMachine(),
    env: process.env,
  };
  const vsock = openVsock(process.env['DSTACK_VSOCK'] || 'kernel');
  return await runEnclave(options, vsock, thisEnclave, (line) => {
    process.stderr.write(
      `${line
        .split('\n')
        .map((one) => printable(one))
        .join('\n')}\n`,
    );
  });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(printableReport(error));
    process.exit(1);
  },
);
