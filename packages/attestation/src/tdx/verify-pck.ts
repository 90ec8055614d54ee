import { utf8 } from '@dstack-cloud/encoding';
import { AttestationError } from '../errors.ts';
import { cachedStage, type Dated } from '../stage.ts';
import type { VerifyContext } from '../verify-context.ts';
import { requirePckPath } from './intel-signers.ts';
import { type PckPlatform, readPckPlatform } from './pck-extension.ts';
import { validateIntelChain } from './signed-json.ts';
import { rootsDigest, type VerifiedCollateral } from './verify-collateral.ts';

/** The platform whose PCK chain leads to a configured root. */
export interface VerifiedPck extends Dated {
  readonly platform: PckPlatform;
  /** SubjectPublicKeyInfo of the leaf. */
  readonly spki: Uint8Array;
  readonly trustRoot: string;
  readonly simulated: boolean;
}

const REFERENCE = 'docs/protocol/verification.md section 2.2 step 5';

/** Step 5 of docs/protocol/verification.md section 2.2; remembered by the hash of chain, collateral and roots. */
export function verifyPck(
  chain: string,
  collateral: VerifiedCollateral,
  context: VerifyContext,
): Promise<VerifiedPck> {
  const key = [utf8(chain), collateral.digest, rootsDigest(context)];
  return cachedStage('tdx-pck', key, context, async (checks) => {
    const path = await checks.step('tdx.pck-chain', REFERENCE, async () => {
      const found = await validateIntelChain(chain, collateral.root, collateral.crls, context);
      requirePckPath(found);
      return found;
    });
    const leaf = path.chain[0]!;
    const platform = await checks.step('tdx.pck-extension', REFERENCE, async () => {
      const key = await context.cache.key(context.crypto, leaf.spki);
      if (key.kind !== 'p256') throw new AttestationError('unsupported', 'The PCK key is not of P-256');
      return readPckPlatform(leaf);
    });
    return {
      platform,
      spki: leaf.spki,
      trustRoot: path.anchor.name,
      simulated: path.anchor.simulated,
      validFrom: path.validFrom,
      validUntil: path.validUntil,
    };
  });
}
