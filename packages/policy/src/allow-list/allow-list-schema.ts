import { z } from 'zod';

/** SHA-256 of nothing: the device id of evidence without one. */
const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
/** SHA-256 of three zero PCRs: a Nitro enclave in debug mode. */
const NITRO_DEBUG = '81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f';

/** Hex of an exact length, with or without 0x; compared in lower case without it. */
function hex(length: number): z.ZodType<string> {
  return z
    .string()
    .transform((text) => text.toLowerCase().replace(/^0x/, ''))
    .refine((text) => new RegExp(`^[0-9a-f]{${length * 2}}$`).test(text), `must be ${length} bytes of hex`)
    .refine((text) => !/^0*$/.test(text), 'must not be all zero')
    .refine((text) => text !== EMPTY_SHA256, 'is the SHA-256 of nothing: evidence without this value has it')
    .refine((text) => text !== NITRO_DEBUG, 'is the measurement of every Nitro enclave in debug mode');
}

const hexSet = (length: number): z.ZodType<ReadonlySet<string>> =>
  z
    .array(hex(length))
    .max(100_000)
    .transform((list) => new Set(list));
const noHex = (): ReadonlySet<string> => new Set();

const app = z.strictObject({
  composeHashes: hexSet(32).default(noHex),
  devices: hexSet(32).default(noHex),
  allowAnyDevice: z.boolean().default(false),
});

const kms = z.strictObject({
  mrAggregated: hexSet(32).default(noHex),
  devices: hexSet(32).default(noHex),
  allowAnyDevice: z.boolean().default(false),
});

/** Apps by normalised id; one app written twice has two rules, which is none. */
function byAppId<T>(apps: Readonly<Record<string, T>>, context: z.RefinementCtx): ReadonlyMap<string, T> {
  const found = new Map<string, T>();
  for (const [key, rule] of Object.entries(apps)) {
    const id = hex(20).safeParse(key);
    const problem = id.success ? 'is listed twice' : 'must be 20 bytes of hex, not all zero';
    if (!id.success || found.has(id.data)) {
      context.issues.push({ code: 'custom', message: `app ${key} ${problem}`, input: apps });
    } else found.set(id.data, rule);
  }
  return found;
}

const ZERO_ADDRESS = `0x${'00'.repeat(20)}`;

/**
 * The file of auth-simple. Its defaults deny everything; unknown keys and values of wrong
 * length are errors, because a typing error must not look like a rule.
 */
export const allowListSchema: z.ZodType<AllowList> = z.strictObject({
  gatewayAppId: z.string().max(256).default(''),
  kmsContractAddr: z.string().max(256).default(ZERO_ADDRESS),
  appImplementation: z.string().max(256).default(ZERO_ADDRESS),
  chainId: z.int().nonnegative().default(0),
  osImages: hexSet(32).default(noHex),
  kms: kms.prefault({}),
  apps: z
    .record(z.string(), app)
    .transform(byAppId)
    .default(() => new Map()),
  allowedTcbStatuses: z.array(z.string().max(128)).max(64).default(['UpToDate']),
  allowedAdvisoryIds: z.array(z.string().max(256)).max(10_000).default([]),
});

/** Devices that may run something. */
export type DeviceRule = { readonly devices: ReadonlySet<string>; readonly allowAnyDevice: boolean };

/** A parsed allow-list: hex in lower case without 0x. */
export type AllowList = {
  readonly gatewayAppId: string;
  readonly kmsContractAddr: string;
  readonly appImplementation: string;
  readonly chainId: number;
  readonly osImages: ReadonlySet<string>;
  readonly kms: DeviceRule & { readonly mrAggregated: ReadonlySet<string> };
  readonly apps: ReadonlyMap<string, DeviceRule & { readonly composeHashes: ReadonlySet<string> }>;
  readonly allowedTcbStatuses: readonly string[];
  readonly allowedAdvisoryIds: readonly string[];
};
