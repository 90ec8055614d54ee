import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { isThere } from '@dstack-cloud/files';
import { AGENT_CASES } from './agent/cases.ts';
import type { AgentTarget } from './agent/target.ts';
import type { ConformanceCase } from './case.ts';
import { type Endpoint, parseEndpoint } from './endpoint.ts';
import { GATEWAY_CASES, type GatewayTarget } from './gateway/cases.ts';
import { KMS_CASES, type KmsTarget } from './kms/cases.ts';
import { readKnownDeviations } from './known-deviations.ts';
import type { CaseResult, RunOptions } from './run-cases.ts';
import { runCases } from './run-cases.ts';
import { VERIFIER_CASES, type VerifierTarget } from './verifier/cases.ts';

export const USAGE = `Usage: dstack-conformance agent|kms|verifier|gateway URL [options]

Tests an implementation from outside: each case says what it checks and where that is described. URL is
http://HOST:PORT, https://HOST:PORT or unix:PATH; for an agent also a folder with dstack.sock and the sockets beside it.

      --extensions         also what the wire of dstack 0.6 does not have
      --only TEXT          only cases whose id contains this
      --known FILE         known deviations: JSON of ids, each with the reason
      --list               list the cases; needs no URL
      --json               results as JSON
      --version            print the version
  -h, --help               print this text

Agent:
      --tappd URL          socket of Tappd
      --external URL       listener for strangers
      --host URL           listener of the host
      --emit-events        also cases that extend RTMR3
Key service:
      --cert FILE, --key FILE   certificate and key of an attested machine, PEM
      --app-id HEX         app id of that machine
Verifier:
      --evidence FILE      attestation that it must accept
Gateway:
      --proxy URL          listener of users, http://HOST:PORT

Examples:
  dstack-conformance agent ./sim --extensions
  dstack-conformance agent unix:/var/run/dstack.sock --tappd unix:/var/run/tappd.sock --json
  dstack-conformance kms https://kms.example.com:8000 --known deviations.json
  dstack-conformance verifier http://127.0.0.1:8080 --evidence evidence.bin
  dstack-conformance gateway https://gateway.example.com:8000 --proxy http://gateway.example.com:443

The command ends with 0 when every case passed, was skipped with a reason or is a known deviation, with 1 when one
failed or a known deviation is none any more, with 2 for wrong arguments.
`;

/** Wrong arguments, in one sentence. */
export class UsageError extends Error {}

type Run = (options: Pick<RunOptions, 'onResult'>) => Promise<CaseResult[]>;
export type Listed = Omit<ConformanceCase<never>, 'run'>;

export type Command =
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | { readonly kind: 'list'; readonly json: boolean; readonly cases: readonly Listed[] }
  | { readonly kind: 'run'; readonly json: boolean; readonly suite: Suite; readonly run: Run };

export type Suite = 'agent' | 'kms' | 'verifier' | 'gateway';

const SUITES: Readonly<Record<Suite, readonly Listed[]>> = {
  agent: AGENT_CASES,
  kms: KMS_CASES,
  verifier: VERIFIER_CASES,
  gateway: GATEWAY_CASES,
};

/** Every case of a suite. */
export function casesOf(suite: Suite): readonly Listed[] {
  return SUITES[suite];
}

/** Options that belong to one suite: with another one they are a mistake. */
const OF_SUITE: Readonly<Record<string, Suite>> = {
  tappd: 'agent',
  external: 'agent',
  host: 'agent',
  'emit-events': 'agent',
  cert: 'kms',
  key: 'kms',
  'app-id': 'kms',
  evidence: 'verifier',
  proxy: 'gateway',
};

/** Reads the command line. @throws UsageError */
export function readCommand(argv: readonly string[]): Command {
  const { values, positionals } = parsed(argv);
  if (values.help) return { kind: 'help' };
  if (values.version) return { kind: 'version' };
  const [name, url, ...more] = positionals;
  if (name === undefined || !isSuite(name))
    throw new UsageError(`Expected agent, kms, verifier or gateway, found ${name ?? 'nothing'}; see --help`);
  if (more.length > 0) throw new UsageError(`One URL is wanted, not also ${more.join(' ')}; see --help`);
  for (const [option, suite] of Object.entries(OF_SUITE))
    if (suite !== name && Object.hasOwn(values, option))
      throw new UsageError(`--${option} is of the suite ${suite}, not of ${name}`);
  if (values.list) return { kind: 'list', json: values.json, cases: casesOf(name) };
  if (url === undefined) throw new UsageError(`The URL of the implementation is missing; see --help`);
  const ids = new Set(SUITES[name].map(({ id }) => id));
  if (values.only !== undefined && ![...ids].some((id) => id.includes(values.only!)))
    throw new UsageError(`No case of ${name} has "${values.only}" in its id; --list shows them`);
  const options = {
    extensions: values.extensions,
    only: values.only,
    known: values.known === undefined ? new Map<string, string>() : known(values.known, ids),
  };
  return { kind: 'run', json: values.json, suite: name, run: runOf(name, url, values, options) };
}

type Values = ReturnType<typeof parsed>['values'];

function runOf(suite: Suite, url: string, values: Values, options: RunOptions): Run {
  switch (suite) {
    case 'agent': {
      const target = agentTarget(url, values);
      return (more) => runCases(AGENT_CASES, target, { ...options, ...more });
    }
    case 'kms': {
      const target = kmsTarget(url, values);
      return (more) => runCases(KMS_CASES, target, { ...options, ...more });
    }
    case 'verifier': {
      const target: VerifierTarget = {
        endpoint: endpoint(url),
        evidence: values.evidence === undefined ? undefined : new Uint8Array(file(values.evidence)),
      };
      return (more) => runCases(VERIFIER_CASES, target, { ...options, ...more });
    }
    case 'gateway': {
      const target: GatewayTarget = { endpoint: endpoint(url), proxy: optional(values.proxy) };
      return (more) => runCases(GATEWAY_CASES, target, { ...options, ...more });
    }
  }
}

/** In a folder the sockets have the names of the simulators. */
function agentTarget(url: string, values: Values): AgentTarget {
  const emitEvents = values['emit-events'] ?? false;
  const directory = resolve(url);
  const beside = (name: string): Endpoint | undefined => {
    const path = resolve(directory, name);
    return isThere(path) ? { kind: 'unix', path } : undefined;
  };
  const dstack = beside('dstack.sock') ?? endpoint(url);
  return {
    dstack,
    tappd: optional(values.tappd) ?? beside('tappd.sock'),
    external: optional(values.external) ?? beside('external.sock'),
    host: optional(values.host) ?? beside('guest.sock'),
    emitEvents,
  };
}

function kmsTarget(url: string, values: Values): KmsTarget {
  const at = endpoint(url);
  const { cert, key } = values;
  const appId = values['app-id']?.toLowerCase();
  if (appId !== undefined && !/^[0-9a-f]{40}$/.test(appId))
    throw new UsageError(`--app-id ${appId} is not 40 hex digits`);
  if ((cert === undefined) !== (key === undefined)) throw new UsageError('--cert and --key belong together');
  if (cert === undefined || key === undefined) return { endpoint: at, appId };
  if (at.kind !== 'https') throw new UsageError(`--cert needs https, and ${url} is not`);
  const identity = { cert: file(cert).toString('utf8'), key: file(key).toString('utf8') };
  return { endpoint: at, attested: { ...at, identity }, appId };
}

function endpoint(text: string): Endpoint {
  try {
    return parseEndpoint(text);
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
}

function optional(text: string | undefined): Endpoint | undefined {
  return text === undefined ? undefined : endpoint(text);
}

function file(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new UsageError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function known(path: string, ids: ReadonlySet<string>): Map<string, string> {
  try {
    return readKnownDeviations(path, ids);
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
}

function isSuite(name: string): name is Suite {
  return Object.hasOwn(SUITES, name);
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        extensions: { type: 'boolean', default: false },
        only: { type: 'string' },
        known: { type: 'string' },
        list: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        version: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        tappd: { type: 'string' },
        external: { type: 'string' },
        host: { type: 'string' },
        'emit-events': { type: 'boolean' },
        cert: { type: 'string' },
        key: { type: 'string' },
        'app-id': { type: 'string' },
        evidence: { type: 'string' },
        proxy: { type: 'string' },
      },
    });
  } catch (cause) {
    throw new UsageError(`${(cause as Error).message}; see --help`, { cause });
  }
}
