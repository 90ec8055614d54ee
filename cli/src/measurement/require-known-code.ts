import { GovernanceError } from '@dstack-cloud/governance';
import type { Address } from 'viem';
import { CodeNames } from '../gov/code-names.ts';
import type { GovSession, GovView } from '../gov/connect-gov.ts';

/**
 * What other code does with a call that allows something, nobody knows: nothing is registered with it.
 * @throws GovernanceError `not-allowed`
 */
export async function requireKnownCode(
  session: GovSession,
  { governance }: GovView,
  app: Address | undefined,
): Promise<void> {
  const names = new CodeNames(session.client, governance.block.number);
  const { kms } = governance;
  const chosen = governance.apps.filter(({ address }) => address.toLowerCase() === app?.toLowerCase());
  for (const { kind, address, implementation } of [kms, ...chosen]) {
    const [proxy, code] = [await names.of(address), await names.of(implementation)];
    const name = kind === 'kms' ? 'DstackKms' : 'DstackApp';
    if (proxy.name === 'erc1967-proxy' && code.name?.startsWith(`dstack-${kind}-`) === true) continue;
    const wrong = proxy.name === 'erc1967-proxy' ? code : proxy;
    throw new GovernanceError('not-allowed', `${address} is no ${name} of a known release`, {
      expected: `the code of ${name}, behind its proxy`,
      found: wrong.name ?? `code hash ${wrong.hash}`,
      hint: 'Check the address and the chain. What other code does with an addition is not known, so that none is made',
    });
  }
}
