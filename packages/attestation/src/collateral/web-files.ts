import { AttestationError } from '../errors.ts';
import type { CollateralFiles } from './collateral-files.ts';

/** There is no directory outside of Node. */
export function openCollateralFiles(_directory: string): CollateralFiles {
  throw new AttestationError('unsupported', 'A collateral directory needs Node');
}
