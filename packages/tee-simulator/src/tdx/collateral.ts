import type { DcapCollateral, TcbStatus } from '@dstack-cloud/attestation';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { issueRevocationList } from '../pki/certificate.ts';
import { PLATFORM_TCB, QUOTING_ENCLAVE } from './platform-tcb.ts';
import type { TdxPki } from './tdx-pki.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;
/** How far the dates reach beyond the moment of serving, as Intel's do. */
const VALIDITY = 30 * DAY;
const EVALUATION_NUMBER = 17;

/** What is wrong with the collateral, for tests of refusals; nothing by default. */
export interface CollateralOptions {
  /** Status of the level that the simulated machine has; default `UpToDate`. */
  readonly tcbStatus?: TcbStatus;
  readonly advisoryIds?: readonly string[];
  /** All dates lie in the past. */
  readonly expired?: boolean;
  /** The machine's PCK certificate is on the PCK CA's list. */
  readonly revokePck?: boolean;
  /** Levels for SGX quotes instead of TDX: other ids, no module. */
  readonly tee?: 'tdx' | 'sgx';
}

/**
 * Collateral in force at `now` (unix seconds). Issued an hour to a day before, rounded to the hour, so that the
 * same hour gives the same bytes; it lasts 30 days more, and a server that regenerates it never serves a stale one.
 */
export function tdxCollateral(pki: TdxPki, now: number, options: CollateralOptions = {}): DcapCollateral {
  const hour = Math.floor(now / HOUR) * HOUR;
  const issued = options.expired ? hour - 2 * VALIDITY : hour - HOUR;
  const nextUpdate = issued + VALIDITY;
  const tcbInfo = JSON.stringify(tcbInfoDocument(pki, issued, nextUpdate, options));
  const qeIdentity = JSON.stringify(qeIdentityDocument(issued, nextUpdate, options));
  const signerChain = pki.tcbSigner.pem + pki.root.pem;
  const list = { thisUpdate: issued, nextUpdate, number: Math.floor(issued / HOUR) };
  const revoked = options.revokePck ? [pki.pck.serial] : [];
  return {
    pckCrlIssuerChain: pki.pckCa.pem + pki.root.pem,
    rootCaCrl: issueRevocationList({ issuer: pki.root, ...list }),
    pckCrl: issueRevocationList({ issuer: pki.pckCa, ...list, revoked }),
    tcbInfoIssuerChain: signerChain,
    tcbInfo,
    tcbInfoSignature: pki.tcbSigner.key.sign(utf8(tcbInfo)),
    qeIdentityIssuerChain: signerChain,
    qeIdentity,
    qeIdentitySignature: pki.tcbSigner.key.sign(utf8(qeIdentity)),
  };
}

function tcbInfoDocument(
  pki: TdxPki,
  issued: number,
  nextUpdate: number,
  { tee = 'tdx', tcbStatus = 'UpToDate', advisoryIds = [] }: CollateralOptions,
): unknown {
  const module = { mrsigner: '0'.repeat(96), attributes: '0'.repeat(16), attributesMask: 'F'.repeat(16) };
  const components = (svns: Iterable<number>) => Array.from(svns, (svn) => ({ svn }));
  const tdxSvn = PLATFORM_TCB.teeTcbSvn;
  const level = (lower: number, status: string, advisories: readonly string[]) => ({
    tcb: {
      sgxtcbcomponents: components(PLATFORM_TCB.cpuSvn.map((svn) => Math.max(0, svn - lower))),
      pcesvn: PLATFORM_TCB.pceSvn - lower,
      ...(tee === 'tdx'
        ? // Index 1 is the module's major version, by which the module identity is chosen.
          { tdxtcbcomponents: components(tdxSvn.map((svn, i) => (i === 1 ? 0 : Math.max(0, svn - lower)))) }
        : {}),
    },
    ...tcbLevel(status, issued, advisories),
  });
  return {
    id: tee === 'tdx' ? 'TDX' : 'SGX',
    version: 3,
    issueDate: timestamp(issued),
    nextUpdate: timestamp(nextUpdate),
    fmspc: toHex(pki.fmspc).toUpperCase(),
    pceId: toHex(PLATFORM_TCB.pceId).toUpperCase(),
    tcbType: 0,
    tcbEvaluationDataNumber: EVALUATION_NUMBER,
    ...(tee === 'tdx'
      ? {
          tdxModule: module,
          tdxModuleIdentities: [
            {
              id: 'TDX_01',
              ...module,
              tcbLevels: [
                { tcb: { isvsvn: tdxSvn[0]! }, ...tcbLevel('UpToDate', issued, []) },
                { tcb: { isvsvn: 2 }, ...tcbLevel('OutOfDate', issued, ['SIMULATED-SA-00001']) },
              ],
            },
          ],
        }
      : {}),
    tcbLevels: [level(0, tcbStatus, advisoryIds), level(1, 'OutOfDate', ['SIMULATED-SA-00002'])],
  };
}

function qeIdentityDocument(issued: number, nextUpdate: number, { tee = 'tdx' }: CollateralOptions): unknown {
  const { attributes, mrSigner, isvProdId } = QUOTING_ENCLAVE;
  return {
    id: tee === 'tdx' ? 'TD_QE' : 'QE',
    version: 2,
    issueDate: timestamp(issued),
    nextUpdate: timestamp(nextUpdate),
    tcbEvaluationDataNumber: EVALUATION_NUMBER,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: toHex(attributes.map((byte, i) => (i < 8 ? byte : 0))).toUpperCase(),
    attributesMask: 'FBFFFFFFFFFFFFFF0000000000000000',
    mrsigner: toHex(mrSigner).toUpperCase(),
    isvprodid: isvProdId,
    tcbLevels: [
      { tcb: { isvsvn: PLATFORM_TCB.qeIsvSvn }, ...tcbLevel('UpToDate', issued, []) },
      { tcb: { isvsvn: 2 }, ...tcbLevel('OutOfDate', issued, ['SIMULATED-SA-00003']) },
    ],
  };
}

function tcbLevel(tcbStatus: string, issued: number, advisoryIDs: readonly string[]): object {
  return {
    tcbDate: timestamp(issued - 365 * DAY),
    tcbStatus,
    ...(advisoryIDs.length > 0 ? { advisoryIDs } : {}),
  };
}

function timestamp(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}
