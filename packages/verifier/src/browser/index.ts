/** The verifier for browsers: no node: imports, signatures by WebCrypto. `npm run build` bundles it. */
export {
  AttestationError,
  type Check,
  type CollateralSource,
  pcsCollateral,
  ROOT_NAMES,
  type RootName,
  replaceRoot,
  type TrustRoots,
  vendorRoots,
} from '@dstack-cloud/attestation';
export { printable, printableJson } from '@dstack-cloud/encoding';
export { parseRaTlsCertificate } from '@dstack-cloud/ra-tls/certificate';
export { type Bundle, isBundle, readBundle } from '../bundle.ts';
export { type CollateralSet, readCollateral, staticSource } from '../collateral/static-source.ts';
export { noCollateral } from '../collateral/unavailable.ts';
export { withChain } from '../collateral/with-chain.ts';
export { parseTime } from '../command/parse-time.ts';
export { VerifierError, type VerifierErrorCode } from '../errors.ts';
export { MAX_EVIDENCE_BYTES, recogniseEvidence } from '../evidence/recognise.ts';
export type { VerifierPolicy } from '../policy.ts';
export { type AppInfoJson, type Report, reportToJson } from '../report.ts';
export { type VerifyEvidenceOptions, verify } from '../verify.ts';
export { CHECK_TITLES, checkPattern, checkTitle } from './check-titles.ts';
export { freshReportData } from './fresh-report-data.ts';
export { type Judged, type JudgeInput, judgeFile } from './judge-file.ts';
