import { toHex } from '@dstack-cloud/encoding';
import type { AppLogic, CodeName, KmsLogic, KnownCode } from '../contracts/known-code.ts';
import { IMPLEMENTATION_SLOT, slotBytes } from '../contracts/slots.ts';
import type { ProvenState } from './proven-state.ts';

/** What stands at an address. */
export type Contract<Logic> =
  /** An account without code, or none. */
  | { readonly is: 'absent' }
  /** Code that we do not know: its storage means nothing to us. */
  | { readonly is: 'unknown'; readonly why: string }
  | { readonly is: 'known'; readonly logic: Logic; readonly implementation: string };

type Role = { kms: KmsLogic; app: AppLogic };

/**
 * Which of our contracts is behind a proxy. Both the proxy's code and the implementation's must be known, because both
 * run, and only then is the storage laid out as we read it.
 */
export async function proxiedContract<R extends keyof Role>(
  state: ProvenState,
  codes: KnownCode,
  address: string,
  role: R,
): Promise<Contract<Role[R]>> {
  await state.load([{ address, slots: [IMPLEMENTATION_SLOT] }]);
  const codeHash = state.codeHash(address);
  if (codeHash === undefined) return { is: 'absent' };
  const proxy = codes.byHash(codeHash);
  if (proxy !== 'erc1967-proxy') {
    return { is: 'unknown', why: `contract code is not known (code hash ${codeHash})` };
  }

  const word = toHex(slotBytes(state.slot(address, IMPLEMENTATION_SLOT)));
  const implementation = `0x${word.slice(24)}`;
  await state.load([{ address: implementation, slots: [] }]);
  const implementationHash = state.codeHash(implementation);
  if (!/^0{24}/.test(word) || implementationHash === undefined) {
    return { is: 'unknown', why: `contract has no implementation (slot is 0x${word})` };
  }
  const name =
    codes.byHash(implementationHash) ??
    codes.byCode(implementationHash, await state.code(implementation), implementation);
  if (name === undefined || !isRole(name, role)) {
    return {
      is: 'unknown',
      why: `contract implementation ${implementation} is not known (code hash ${implementationHash})`,
    };
  }
  return { is: 'known', logic: name, implementation };
}

function isRole<R extends keyof Role>(name: CodeName, role: R): name is Role[R] {
  return name.startsWith(`dstack-${role}-`);
}
