import { parseProxyConfig } from '@dstack-cloud/vsock';
import { z } from 'zod';

/** The context id that a host gives to an enclave, and that the documented examples use. */
const DEFAULT_CID = 16;
const FILE = /^enclave-[0-9a-f]{64}\.eif$/;

/** How an enclave runs on this host. */
export interface EnclaveSettings {
  /** Name of the enclave image in the machine's folder. */
  readonly file: string;
  /** `HOST:PORT` of each target that the CONNECT proxy of the host lets through. */
  readonly allow: readonly string[];
  /** Whether a name among them may have an address of a private network. */
  readonly allow_private: boolean;
  /** Fixed ways out: vsock port of the host and where it leads. */
  readonly egress: readonly { readonly vsock_port: number; readonly target: string }[];
  /** Context id that mappings name; each enclave of this host has a vsock of its own. */
  readonly cid: number;
}

export const enclaveSettingsSchema: z.ZodType<EnclaveSettings> = z.strictObject({
  file: z.string().regex(FILE, 'must be the name of an enclave image of this machine'),
  allow: z.array(z.string()).max(64),
  allow_private: z.boolean().default(false),
  egress: z.array(z.strictObject({ vsock_port: z.int(), target: z.string() })).max(64),
  cid: z.int().min(4).max(0xffff_fffe).default(DEFAULT_CID),
});

/** Name of an enclave image in a machine's folder: by content, so that no update changes the image of the one before. */
export function enclaveFileName(osImageHash: string): string {
  return `enclave-${osImageHash}.eif`;
}

/** Whether a file of a machine is an enclave image. */
export function isEnclaveFile(name: string): boolean {
  return FILE.test(name);
}

/** A way into an enclave: an address of the host, and the vsock port of the enclave. */
export interface Ingress {
  readonly address: string;
  readonly from: number;
  readonly to: number;
}

/**
 * Configuration of `dstack-vsock-proxy` for an enclave of this host; undefined when nothing goes in or out.
 *
 * @param vsock what carries vsock here
 * @throws VsockError `bad-config` for what the proxy would refuse
 */
export function proxyConfigText(
  { allow, allow_private, egress, cid }: EnclaveSettings,
  ingress: readonly Ingress[],
  vsock: string,
): string | undefined {
  if (allow.length === 0 && egress.length === 0 && ingress.length === 0) return undefined;
  const text = JSON.stringify({
    vsock,
    ...(allow.length === 0 ? {} : { connect: { allow, allow_private } }),
    mappings: [
      ...egress.map((one) => ({ direction: 'egress', ...one })),
      ...ingress.map(({ address, from, to }) => ({
        direction: 'ingress',
        listen: `${address.includes(':') ? `[${address}]` : address}:${from}`,
        enclave_cid: cid,
        enclave_port: to,
      })),
    ],
  });
  parseProxyConfig(text);
  return text;
}
