import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../errors.ts';
import type { TdReport } from '../tdx-quote/reports.ts';
import type { PckPlatform } from './pck-extension.ts';
import type { LevelStatus, ModuleSigner, PlatformLevel, SvnLevel, TcbInfo } from './tcb-info.ts';

/**
 * The platform's level: the first, from the highest, of which the platform has every security version
 * (docs/protocol/verification.md section 2.3).
 * @throws AttestationError `tcb` when there is none
 */
export function platformLevel(
  info: TcbInfo,
  pck: PckPlatform,
  teeTcbSvn: Uint8Array | undefined,
): PlatformLevel {
  const level = info.levels.find((candidate) => reaches(candidate, pck, teeTcbSvn));
  if (level) return level;
  throw new AttestationError('tcb', 'No TCB level fits the platform', {
    found: `CPUSVN ${toHex(pck.cpuSvn)}, PCESVN ${pck.pceSvn}${teeTcbSvn ? `, TEE_TCB_SVN ${toHex(teeTcbSvn)}` : ''}`,
  });
}

function reaches(level: PlatformLevel, pck: PckPlatform, teeTcbSvn: Uint8Array | undefined): boolean {
  if (pck.pceSvn < level.pceSvn) return false;
  if (!level.sgx.every((svn, i) => pck.cpuSvn[i]! >= svn)) return false;
  if (!teeTcbSvn) return true;
  // Intel's rule: with a module major version, SVN 0 and 1 are appraised by the module's identity alone.
  const first = teeTcbSvn[1] === 0 ? 0 : 2;
  return level.tdx?.every((svn, i) => i < first || teeTcbSvn[i]! >= svn) ?? false;
}

/**
 * Checks the TDX module's signer and attributes, and finds its level (step 12).
 * @returns the level, or undefined when the module has no identity of its own
 * @throws AttestationError `collateral-invalid`, `mismatch`, `tcb`
 */
export function moduleLevel(info: TcbInfo, td: TdReport): LevelStatus | undefined {
  const isvSvn = td.teeTcbSvn[0]!;
  const major = td.teeTcbSvn[1]!;
  if (major === 0 || info.moduleIdentities.length === 0) {
    if (!info.module)
      throw new AttestationError('collateral-invalid', 'TCB info says nothing of the TDX module');
    checkModuleSigner(info.module, td);
    return undefined;
  }
  const id = `TDX_${major.toString(16).toUpperCase().padStart(2, '0')}`;
  const identity = info.moduleIdentities.find((candidate) => candidate.id === id);
  if (!identity) {
    throw new AttestationError('tcb', 'TCB info has no identity of this TDX module', { expected: id });
  }
  checkModuleSigner(identity, td);
  return svnLevel(identity.levels, isvSvn, `TDX module ${id}`);
}

/**
 * First level, from the highest, that `isvSvn` reaches.
 * @throws AttestationError `tcb` when there is none
 */
export function svnLevel(levels: readonly SvnLevel[], isvSvn: number, what: string): SvnLevel {
  const level = levels.find((candidate) => isvSvn >= candidate.isvSvn);
  if (level) return level;
  throw new AttestationError('tcb', `The security version of the ${what} is below every level`, {
    expected: `at least ${levels.at(-1)?.isvSvn ?? 'one level'}`,
    found: `${isvSvn}`,
  });
}

function checkModuleSigner(signer: ModuleSigner, td: TdReport): void {
  if (!equalBytes(signer.mrSigner, td.mrSignerSeam)) {
    throw new AttestationError('mismatch', 'MRSIGNERSEAM is not the signer in the TCB info', {
      expected: toHex(signer.mrSigner),
      found: toHex(td.mrSignerSeam),
    });
  }
  // Within the mask as Intel says, outside of it zero.
  const wanted = signer.attributes.map((byte, i) => byte & signer.attributesMask[i]!);
  if (!equalBytes(wanted, td.seamAttributes)) {
    throw new AttestationError('mismatch', 'SEAMATTRIBUTES are not those in the TCB info', {
      expected: toHex(wanted),
      found: toHex(td.seamAttributes),
    });
  }
}
