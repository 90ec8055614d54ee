import { type Address, getAddress, type Hex, isAddressEqual } from 'viem';
import { z } from 'zod';
import { GovernanceError } from '../errors.ts';
import { type SafeTx, safeTxHash } from './safe-tx.ts';

/** A Safe transaction with the signatures that it has so far: all that its owners need to pass on. */
export type Proposal = {
  readonly chainId: number;
  readonly safe: Address;
  readonly tx: SafeTx;
  readonly signatures: readonly Hex[];
};

/** A block has no room for more. */
const MAX_DATA = 2 * 256 * 1024;
const MAX_SIGNATURES = 100;

/** @internal Pieces of foreign JSON. */
export const addressText: z.ZodType<Address> = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'must be an address')
  .transform((text) => getAddress(text));
/** @internal */
export const bytesText: z.ZodType<Hex> = z
  .string()
  .max(MAX_DATA)
  .regex(/^0x([0-9a-fA-F]{2})*$/, 'must be hex')
  .transform((text) => text.toLowerCase() as Hex);
/** @internal A number of at most 256 bits, as a text or a number: services send both. */
export const amountText: z.ZodType<bigint> = z
  .union([z.string().regex(/^\d{1,78}$/, 'must be a whole number'), z.int().nonnegative()])
  .transform((value) => BigInt(value));

const schema = z.strictObject({
  version: z.literal(1),
  chainId: z.int().positive(),
  safe: addressText,
  safeTxHash: z.string(),
  /** For people; what counts are the bytes. */
  effect: z.array(z.string()).max(4096).optional(),
  to: addressText,
  value: amountText,
  data: bytesText,
  operation: z.literal([0, 1]),
  safeTxGas: amountText,
  baseGas: amountText,
  gasPrice: amountText,
  gasToken: addressText,
  refundReceiver: addressText,
  nonce: amountText,
  signatures: z.array(z.string().regex(/^0x[0-9a-fA-F]{130}$/)).max(MAX_SIGNATURES),
});

/** The hash that owners sign. */
export function proposalHash({ chainId, safe, tx }: Proposal): Hex {
  return safeTxHash(chainId, safe, tx);
}

/** As JSON. @param effect lines for people who open the file */
export function writeProposal(proposal: Proposal, effect: readonly string[]): string {
  const { chainId, safe, tx, signatures } = proposal;
  const { value, safeTxGas, baseGas, gasPrice, nonce, ...rest } = tx;
  const amounts = { value, safeTxGas, baseGas, gasPrice, nonce };
  const texts = Object.fromEntries(
    Object.entries(amounts).map(([name, amount]) => [name, amount.toString()]),
  );
  const hash = proposalHash(proposal);
  return `${JSON.stringify({ version: 1, chainId, safe, safeTxHash: hash, effect, ...rest, ...texts, signatures }, null, 2)}\n`;
}

/** @throws GovernanceError `bad-input` also when the hash is not that of the content */
export function readProposal(text: string, where: string): Proposal {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new GovernanceError('bad-input', `${where} is no JSON`);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw new GovernanceError('bad-input', `${where} is no proposal: ${z.prettifyError(parsed.error)}`);
  }
  const { version: _, chainId, safe, safeTxHash: claimed, effect: __, signatures, ...tx } = parsed.data;
  const proposal = { chainId, safe, tx, signatures: signatures as Hex[] };
  const hash = proposalHash(proposal);
  if (hash !== claimed.toLowerCase()) {
    throw new GovernanceError('bad-input', `${where} has been changed: its hash is not that of its content`, {
      ...{ expected: hash, found: claimed },
      hint: 'Get the proposal from its author again',
    });
  }
  return proposal;
}

/** Both with the signatures of either. @throws GovernanceError `bad-input` when they are not the same transaction */
export function mergeProposals(one: Proposal, other: Proposal): Proposal {
  if (!isAddressEqual(one.safe, other.safe) || proposalHash(one) !== proposalHash(other)) {
    throw new GovernanceError('bad-input', 'The signatures are of another transaction');
  }
  return { ...one, signatures: [...new Set([...one.signatures, ...other.signatures])] };
}
