import { isRemote, type NamedAddress, plainHttpWarnings } from '@dstack-cloud/policy';
import type { Settings } from './settings.ts';

/** What is legal and unwise about the settings. */
export function settingsWarnings({ source }: Settings): string[] {
  if (source.type !== 'chain') return [];
  const { rpcUrls, lightClientUrl } = source;
  const warnings = plainHttpWarnings([
    ...rpcUrls.map((url): NamedAddress => ['ETH_RPC_URLS', url]),
    ['ETH_LIGHT_CLIENT_URL', lightClientUrl ?? ''],
  ]);
  if (lightClientUrl !== undefined && URL.canParse(lightClientUrl) && isRemote(new URL(lightClientUrl))) {
    warnings.push(
      'ETH_LIGHT_CLIENT_URL: it is on another machine: who runs it, or sits on the way, chooses the blocks',
    );
  }
  return warnings;
}
