/** The page of limits: what is bounded by how much, and what the largest hostile inputs did when the page was made. */
import { MSGPACK_SHAPE } from '@dstack-cloud/attestation';
import { CONNECTIONS, QUESTION_LIMITS } from '@dstack-cloud/auth-api';
import { MAX_CBOR_ITEMS } from '@dstack-cloud/encoding';
import { defaultLimits } from '@dstack-cloud/kms';
import {
  CONNECTION_LIMITS,
  DEFAULT_BODY_LIMIT,
  JSON_LIMITS,
  LARGE_BODY_LIMIT,
  LINE_LIMITS,
  MAX_PIPELINED,
  MAX_REFUSALS,
  MAX_WIRE_FIELDS,
} from '@dstack-cloud/prpc';
import { MAX_CSR_BYTES } from '@dstack-cloud/ra-tls';

/** What one attack did. */
export type Row = {
  readonly entry: string;
  readonly attack: string;
  readonly from: string;
  readonly loopMs: number;
  readonly heapMb: number;
  readonly logKb: number;
  readonly auditKb: number;
  readonly fetches: number;
  readonly servedPercent: number;
  readonly p99Ms: number;
};

const kib = (bytes: number): string =>
  bytes % 2 ** 20 === 0
    ? `${bytes / 2 ** 20} MiB`
    : bytes % 1024 === 0
      ? `${bytes / 1024} KiB`
      : `${bytes} bytes`;
const seconds = (ms: number): string => `${ms / 1_000} s`;
const many = (count: number): string => count.toLocaleString('en');

/** From the program's own constants and defaults. */
function limits(): [what: string, of: string, limit: string][] {
  const { tls, rate, bodies, loginsPerMinute, refusalBytesPerMinute } = defaultLimits();
  const other = CONNECTION_LIMITS;
  return [
    [
      'connections; of one address',
      'KMS',
      `${many(tls.max_connections)}; ${many(tls.max_connections_per_address)}`,
    ],
    [
      '',
      'KMS with workers: waiting for one of them',
      `${many(tls.max_connections)}; ${many(tls.max_connections_per_address)}`,
    ],
    ['', 'auth API', `${many(CONNECTIONS.max)}; ${many(CONNECTIONS.maxPerNetwork)}`],
    ['', 'any other listener', `${many(other.max)}; ${many(other.maxPerNetwork)}`],
    [
      'handshakes in progress; of one address',
      'KMS',
      `${tls.max_handshakes}; ${tls.max_handshakes_per_address}`,
    ],
    [
      'connections without a request; of one address',
      'auth API',
      `${other.maxSilent}; ${CONNECTIONS.maxSilentPerNetwork}`,
    ],
    ['', 'any other listener', `${other.maxSilent}; ${other.maxSilentPerNetwork}`],
    ['certificates of clients not yet verified', 'KMS, each worker', kib(other.maxHeldBytes)],
    [
      'cost of one address; at once',
      'KMS',
      `${many(rate.network_cost_per_minute)} a minute; ${rate.network_cost_burst}`,
    ],
    ['', 'auth API', `${many(CONNECTIONS.costPerMinute)} a minute; ${many(CONNECTIONS.costBurst)}`],
    ['', 'any other listener', `${many(other.costPerMinute)} a minute; ${other.costBurst}`],
    [
      'cost of a question',
      'auth API',
      `1 for each ${kib(QUESTION_LIMITS.costBytes)} above ${kib(QUESTION_LIMITS.freeBytes)}`,
    ],
    ['refused requests on one connection', 'all', `${MAX_REFUSALS}`],
    ['requests at once on one connection', 'all', `${MAX_PIPELINED}`],
    ['a handshake', 'KMS', seconds(tls.handshake_timeout * 1_000)],
    [
      'a request that stands still; an answer that is not read',
      'all',
      `${seconds(other.stallMs)}; ${seconds(other.unreadMs)}`,
    ],
    ['open requests of one address; at once', 'KMS', `${rate.open_per_minute} a minute; ${rate.open_burst}`],
    [
      'refused evidence of one address; at once',
      'KMS',
      `${rate.refused_evidence_per_minute} a minute; ${rate.refused_evidence_burst}`,
    ],
    ['wrong credentials of one address', 'KMS admin, onboarding; VMM', `${loginsPerMinute} a minute`],
    ['a message', 'KMS `SignCert`', kib(bodies['SignCert']!)],
    ['', 'KMS `GetAppKey`, `GetKey`, `GetKmsKey`', kib(bodies['GetAppKey']!)],
    ['', 'KMS `Admin.CheckBoot`; the applications of a guest', kib(LARGE_BODY_LIMIT)],
    ['', 'auth API', kib(QUESTION_LIMITS.bytes)],
    ['', 'any other method', kib(DEFAULT_BODY_LIMIT)],
    ['a signing request', 'KMS', kib(MAX_CSR_BYTES)],
    [
      'JSON: values; nesting; items of a list; fields that the message does not have; values in these',
      'all',
      `${many(JSON_LIMITS.values)}; ${JSON_LIMITS.depth}; ${many(JSON_LIMITS.items)}; ${JSON_LIMITS.unknownFields}; ${many(JSON_LIMITS.unknownValues)}`,
    ],
    ['JSON of a question: values', 'auth API', many(QUESTION_LIMITS.values)],
    ['protobuf: fields', 'all', many(MAX_WIRE_FIELDS)],
    [
      'evidence in MessagePack: values; nesting; members of a map',
      'all',
      `${many(MSGPACK_SHAPE.maxValues)}; ${MSGPACK_SHAPE.maxDepth}; ${MSGPACK_SHAPE.maxKeys}`,
    ],
    ['CBOR: items', 'all', many(MAX_CBOR_ITEMS)],
    [
      `lines of one message in ${seconds(LINE_LIMITS.windowMs)}; of one address`,
      'all',
      `${LINE_LIMITS.lines}; ${LINE_LIMITS.linesOfSource}`,
    ],
    ['records of refusals', 'KMS', `${kib(refusalBytesPerMinute)} a minute`],
  ];
}

/** The part of the page that says what is bounded; a test holds it to the program. */
export function limitsTable(): string {
  const rows = limits().map((cells) => `| ${cells.join(' | ')} |`);
  return ['| What | Of | At most |', '| --- | --- | --- |', ...rows].join('\n');
}

const PAGE_HEAD = `# Limits

What a stranger can take of each service, and what is left to others meanwhile. Made by a test:
\`DSTACK_WRITE_LIMITS=1 npx vitest run test/e2e/hostile-inputs.test.ts\` rewrites it, and every run holds the first table
to the program. What the limits of the key service mean, and how to set them, is in [kms.md](kms.md#limits). The service
\`dstack-vmm\` has fewer connections and larger messages: [vmm-config](reference/vmm-config.md#limits).

An address is an IPv4 address or an IPv6 /64. Cost is counted as
[kms-config](reference/kms-config.md#corerate_limit) says.

`;

/** The whole page. */
export function limitsPage(rows: readonly Row[], bounds: string): string {
  const measured = rows.map((row) => {
    const cells = [
      row.entry,
      row.attack,
      row.from,
      row.loopMs.toFixed(0),
      row.heapMb.toFixed(0),
      row.logKb.toFixed(0),
      row.auditKb.toFixed(0),
      String(row.fetches),
      row.servedPercent.toFixed(0),
      row.p99Ms.toFixed(0),
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    `${PAGE_HEAD}${limitsTable()}`,
    '',
    '## Measured',
    '',
    'The largest hostile input of each kind, from one address and from sixteen, against the built programs with these limits',
    'on two cores, which attackers and genuine clients share. Genuine clients of another address ask twenty times a second.',
    bounds,
    '',
    '| Listener | Input | From | Loop held up, ms | Heap, MB more | Log, KB/s | Audit log, KB | Fetches | Served, % | p99, ms |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...measured,
    '',
  ].join('\n');
}
