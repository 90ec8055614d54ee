import type { Address } from 'viem';
import { z } from 'zod';
import { GovernanceError } from './errors.ts';
import { addressText } from './safe/proposal-file.ts';

/** What was deployed and must stay so: `gov deploy` writes it, and what the chain says is compared with it. */
export type GovernanceFile = {
  readonly version: 1;
  readonly model: 'A' | 'B' | 'C' | 'multisig';
  readonly chainId: number;
  /** False while the deployment is under way: the same command continues it. */
  readonly complete: boolean;
  readonly fromBlock: number;
  readonly kms?: Address | undefined;
  readonly apps: readonly Address[];
  readonly guardians: readonly Address[];
  /** Model A. */
  readonly owner?: Address | undefined;
  readonly timelock?: Address | undefined;
  readonly minDelay?: number | undefined;
  readonly proposer?: Address | undefined;
  /** The zero address stands for everybody. */
  readonly executor?: Address | undefined;
  readonly safe?: Address | undefined;
  readonly signers?: readonly Address[] | undefined;
  readonly threshold?: number | undefined;
  readonly multiSend?: Address | undefined;
  /** Contracts that the deployment made on the way, by name. */
  readonly made: Readonly<Record<string, Address | undefined>>;
};

/** Contracts that a deployment may make. */
const MADE = [
  'DstackApp',
  'DstackKms',
  'KmsProxy',
  'DstackTimelock',
  'SafeL2',
  'SafeProxyFactory',
  'MultiSendCallOnly',
  'CompatibilityFallbackHandler',
] as const;

const schema = z.strictObject({
  version: z.literal(1),
  model: z.enum(['A', 'B', 'C', 'multisig']),
  chainId: z.int().positive(),
  complete: z.boolean(),
  fromBlock: z.int().nonnegative(),
  kms: addressText.optional(),
  apps: z.array(addressText).max(200),
  guardians: z.array(addressText).max(50),
  owner: addressText.optional(),
  timelock: addressText.optional(),
  minDelay: z.int().nonnegative().optional(),
  proposer: addressText.optional(),
  executor: addressText.optional(),
  safe: addressText.optional(),
  signers: z.array(addressText).max(50).optional(),
  threshold: z.int().positive().optional(),
  multiSend: addressText.optional(),
  made: z.strictObject(Object.fromEntries(MADE.map((name) => [name, addressText.optional()]))),
});

/** @throws GovernanceError `bad-input` */
export function readGovernanceFile(text: string, where: string): GovernanceFile {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new GovernanceError('bad-input', `${where} is no JSON`);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new GovernanceError(
    'bad-input',
    `${where} does not describe a governance: ${z.prettifyError(parsed.error)}`,
  );
}
