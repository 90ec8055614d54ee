import { isIP } from 'node:net';
import { z } from 'zod';
import { VsockError } from '../errors.ts';
import { openVsock } from '../open-vsock.ts';
import { type AllowedTarget, parseTarget } from './targets.ts';

const port = z.int().min(1).max(65_535);
const vsockPort = z.int().min(1).max(0xffff_fffe);
const cid = z.int().min(4).max(0xffff_fffe);
const address = z.string().transform((text, context) => {
  const [, host = '', number = ''] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const name = host.replace(/^\[(.*)\]$/, '$1');
  if (isIP(name) !== 0 && port.safeParse(Number(number)).success) return { host: name, port: Number(number) };
  context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not ADDRESS:PORT` });
  return z.NEVER;
});
const target = z.string().transform((text, context): AllowedTarget => {
  const found = parseTarget(text);
  if (found !== undefined) return found;
  context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is not HOST:PORT` });
  return z.NEVER;
});

const schema = z.strictObject({
  /** What carries vsock here. */
  vsock: z
    .string()
    .default('kernel')
    .superRefine((text, context) => {
      try {
        openVsock(text);
      } catch (error) {
        const { message, expected } = error as VsockError;
        context.addIssue({ code: 'custom', message: `${message}, expected ${expected}` });
      }
    }),
  /** CONNECT proxy for the enclave. */
  connect: z
    .strictObject({
      vsock_port: vsockPort.default(3128),
      /** Nothing else is reached. */
      allow: z.array(target).min(1).max(64),
      /** Whether a name may have an address of a private network (RFC 1918, RFC 4193). */
      allow_private: z.boolean().default(false),
    })
    .optional(),
  mappings: z
    .array(
      z.discriminatedUnion('direction', [
        z.strictObject({ direction: z.literal('egress'), vsock_port: vsockPort, target: address }),
        z.strictObject({
          direction: z.literal('ingress'),
          listen: address,
          enclave_cid: cid.default(16),
          enclave_port: vsockPort,
        }),
      ]),
    )
    .max(64)
    .default([]),
  /** vsock port at which enclaves say how they started and ended; it is logged. */
  reports: vsockPort.optional(),
  /** Where Prometheus asks; nowhere by default. */
  metrics: address.optional(),
  limits: z
    .strictObject({
      connections: z.int().min(1).max(65_536).default(1024),
      connections_per_source: z.int().min(1).max(65_536).default(256),
      header_bytes: z.int().min(256).max(65_536).default(4096),
      header_seconds: z.number().min(0.05).max(60).default(10),
      first_byte_seconds: z.number().min(0.05).max(86_400).default(30),
      connect_seconds: z.number().min(0.05).max(60).default(10),
      idle_seconds: z.number().min(0.05).max(86_400).default(300),
    })
    .prefault({}),
});

/** An address of this host, or one that this host reaches. */
interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export interface ProxyLimits {
  readonly connections: number;
  readonly connections_per_source: number;
  readonly header_bytes: number;
  readonly header_seconds: number;
  /** A connection into an enclave on which neither side says anything for so long is ended. */
  readonly first_byte_seconds: number;
  readonly connect_seconds: number;
  readonly idle_seconds: number;
}

/** A fixed way into an enclave, or out of it. */
export type Mapping =
  | { readonly direction: 'egress'; readonly vsock_port: number; readonly target: TcpAddress }
  | {
      readonly direction: 'ingress';
      readonly listen: TcpAddress;
      readonly enclave_cid: number;
      readonly enclave_port: number;
    };

export interface ProxyConfig {
  /** What carries vsock. */
  readonly vsock: string;
  readonly connect?:
    | {
        readonly vsock_port: number;
        readonly allow: readonly AllowedTarget[];
        readonly allow_private: boolean;
      }
    | undefined;
  readonly mappings: readonly Mapping[];
  readonly reports?: number | undefined;
  readonly metrics?: TcpAddress | undefined;
  readonly limits: ProxyLimits;
}

export const MAX_CONFIG_BYTES: number = 64 * 1024;

/** Reads the configuration. @throws VsockError `bad-config` that names the member */
export function parseProxyConfig(text: string): ProxyConfig {
  const invalid = (reason: string, cause?: unknown): VsockError =>
    new VsockError('bad-config', `The configuration of dstack-vsock-proxy cannot be used: ${reason}`, {
      cause,
    });
  if (text.length > MAX_CONFIG_BYTES) throw invalid(`it is larger than ${MAX_CONFIG_BYTES} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid('it is not JSON', cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) {
    requireUsable(parsed.data, invalid);
    return parsed.data;
  }
  throw invalid(
    parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`).join('; '),
  );
}

/** What would fail, or do nothing, once the service runs. */
function requireUsable(
  { connect, mappings, reports, metrics }: ProxyConfig,
  invalid: (reason: string) => VsockError,
): void {
  if (connect === undefined && mappings.length === 0 && reports === undefined)
    throw invalid('it has neither connect nor mappings nor reports');
  const listeners = [
    ...(connect === undefined ? [] : [`vsock port ${connect.vsock_port}`]),
    ...mappings.map((one) =>
      one.direction === 'egress'
        ? `vsock port ${one.vsock_port}`
        : `${one.listen.host} port ${one.listen.port}`,
    ),
    ...(reports === undefined ? [] : [`vsock port ${reports}`]),
    ...(metrics === undefined ? [] : [`${metrics.host} port ${metrics.port}`]),
  ];
  const twice = listeners.find((one, at) => listeners.indexOf(one) !== at);
  if (twice !== undefined) throw invalid(`${twice} is named twice`);
}
