import { type Address, type Hex, hashTypedData, type TypedDataDefinition, zeroAddress } from 'viem';
import type { Call } from '../timelock/operation.ts';

/** A Safe transaction; what its owners sign (EIP-712, Safe 1.3.0 and later). */
export type SafeTx = {
  readonly to: Address;
  readonly value: bigint;
  readonly data: Hex;
  /** 0 is a call; 1 a delegatecall, which may do anything to the Safe itself. */
  readonly operation: 0 | 1;
  readonly safeTxGas: bigint;
  readonly baseGas: bigint;
  readonly gasPrice: bigint;
  readonly gasToken: Address;
  readonly refundReceiver: Address;
  readonly nonce: bigint;
};

/** Field order is part of the hash. */
const types = {
  SafeTx: [
    { name: 'to', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'data', type: 'bytes' },
    { name: 'operation', type: 'uint8' },
    { name: 'safeTxGas', type: 'uint256' },
    { name: 'baseGas', type: 'uint256' },
    { name: 'gasPrice', type: 'uint256' },
    { name: 'gasToken', type: 'address' },
    { name: 'refundReceiver', type: 'address' },
    { name: 'nonce', type: 'uint256' },
  ],
} as const;

type SafeTypedData = TypedDataDefinition<typeof types, 'SafeTx'>;

/** Without a refund: the account that sends it pays, and a relay cannot be made to overcharge the Safe. */
export function safeTx(call: Call, nonce: bigint, operation: 0 | 1 = 0): SafeTx {
  const none = {
    safeTxGas: 0n,
    baseGas: 0n,
    gasPrice: 0n,
    gasToken: zeroAddress,
    refundReceiver: zeroAddress,
  };
  return { to: call.to, value: call.value, data: call.data, operation, ...none, nonce };
}

/** What a signer's device shows. */
export function safeTypedData(chainId: number, safe: Address, tx: SafeTx): SafeTypedData {
  return { domain: { chainId, verifyingContract: safe }, types, primaryType: 'SafeTx', message: tx };
}

/** The hash that owners sign, computed here: neither an endpoint nor a service is asked. */
export function safeTxHash(chainId: number, safe: Address, tx: SafeTx): Hex {
  return hashTypedData(safeTypedData(chainId, safe, tx));
}
