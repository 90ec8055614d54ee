import { safeAbi } from '@dstack-cloud/governance';
import { decodeFunctionData, type Hex, hashMessage, slice } from 'viem';
import type { Sender } from '../chain/read-logs.ts';

const MAX_SIGNERS = 64;
const SIGNATURE_BYTES = 65;

type Recover = (input: { hash: Hex; signature: Hex }) => Promise<Hex>;

/**
 * Who signed a transaction of a Safe, from the transaction that executed it. Undefined when that called the Safe through
 * another contract: its signatures are then not where they can be read. The Safe checked them; this only names them.
 */
export async function safeSigners(
  txHash: Hex,
  safe: Hex,
  { to, from, input }: Sender,
  recover: Recover,
): Promise<string[] | undefined> {
  if (to !== safe) return undefined;
  let signatures: Hex;
  try {
    const { functionName, args } = decodeFunctionData({ abi: safeAbi, data: input });
    if (functionName !== 'execTransaction') return undefined;
    signatures = args[9];
  } catch {
    return undefined;
  }
  const count = Math.min(MAX_SIGNERS, Math.floor((signatures.length - 2) / 2 / SIGNATURE_BYTES));
  const signers: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const signature = slice(signatures, index * SIGNATURE_BYTES, (index + 1) * SIGNATURE_BYTES);
    const signer = await signerOf(txHash, signature, recover);
    // Contract signatures are followed by their own data, which is no signature.
    if (signer === undefined) break;
    signers.push(signer.toLowerCase());
  }
  return signers.length > 0 ? [...new Set(signers)] : [from];
}

/** Safe's encoding: v 0 a contract's, 1 approved before, above 30 `eth_sign`, else over the hash itself. */
async function signerOf(hash: Hex, signature: Hex, recover: Recover): Promise<Hex | undefined> {
  const v = Number.parseInt(signature.slice(-2), 16);
  if (v === 0 || v === 1) return `0x${signature.slice(2 + 24, 2 + 64)}`;
  try {
    if (v <= 30) return await recover({ hash, signature });
    const plain = `${signature.slice(0, -2)}${(v - 4).toString(16)}` as Hex;
    return await recover({ hash: hashMessage({ raw: hash }), signature: plain });
  } catch {
    return undefined;
  }
}
