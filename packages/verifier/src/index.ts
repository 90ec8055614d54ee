export { VerifierError, type VerifierErrorCode } from './errors.ts';
export type { Evidence, EvidenceBody, TpmQuoteJson } from './evidence/evidence.ts';
export { MAX_EVIDENCE_BYTES, type RecogniseOptions, recogniseEvidence } from './evidence/recognise.ts';
export type { Comparison, VerifierPolicy } from './policy/judge-policy.ts';
export { type AppInfoJson, type Report, reportToJson } from './report.ts';
export { type VerifyEvidenceOptions, verify } from './verify.ts';
