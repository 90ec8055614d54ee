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
export { type Bundle, openBundle } from '../bundle.ts';
export { noCollateral } from '../collateral/no-collateral.ts';
export { type CollateralSet, readCollateral, staticSource } from '../collateral/static-source.ts';
export { withChain } from '../collateral/with-chain.ts';
export { parseTime } from '../command/parse-time.ts';
export { VerifierError, type VerifierErrorCode } from '../errors.ts';
export { type EvidenceAddress, evidenceAddress, fetchEvidence, isUrl } from '../evidence/fetch-evidence.ts';
export { freshReportData } from '../evidence/fresh-report-data.ts';
export { MAX_EVIDENCE_BYTES, recogniseEvidence } from '../evidence/recognise.ts';
export type { Comparison, VerifierPolicy } from '../policy/appraise.ts';
export { readExpectations, splitExpectation } from '../policy/expectations.ts';
export { type AppInfoJson, type Report, reportToJson } from '../report.ts';
export { timeOfVerdict, utcTime, type Verdict, verdictOf, verdictText } from '../verdict.ts';
export { type VerifyEvidenceOptions, verify } from '../verify.ts';
export { CHECK_TITLES, checkPattern, checkTitle } from './check-titles.ts';
export { type VerifiedFile, type VerifyFileInput, verifyFile } from './verify-file.ts';
