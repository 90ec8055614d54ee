export * from './attestation.ts';
export { type AuthenticodeDigest, authenticodeDigest } from './authenticode/authenticode.ts';
export {
  MEASURED_SECTIONS,
  MEASURED_SECTIONS_252,
  predictUki,
  readUki,
  type UkiBoot,
  type UkiMeasurements,
  type UnifiedKernelImage,
} from './authenticode/uki.ts';
export { type Check, CheckRecorder, type CheckRule } from './check-recorder.ts';
export { attestedConfig } from './codec/attested-config.ts';
export { decodeAttestation } from './codec/decode-attestation.ts';
export {
  encodeAttestation,
  encodeAttestationForAll,
  encodeAttestationV1,
} from './codec/encode-attestation.ts';
export { eventLogFromJson, eventLogToJson } from './codec/event-json.ts';
export { attestationFromQuote } from './codec/legacy.ts';
export { type MrConfig, readMrConfig } from './codec/mr-config.ts';
export { MSGPACK_SHAPE } from './codec/msgpack-v1.ts';
export { type AmdKdsOptions, amdKdsCollateral } from './collateral/amd-kds.ts';
export { type PcsOptions, pcsCollateral } from './collateral/pcs-collateral.ts';
export { type VendorCrlOptions, vendorCrls } from './collateral/vendor-crls.ts';
export type * from './collateral-source.ts';
export type * from './crypto/backend.ts';
export { p256Spki } from './crypto/key-kind.ts';
export { VerificationCache } from './crypto/verification-cache.ts';
export { webCrypto } from './crypto/web-crypto.ts';
export { AttestationError, type AttestationErrorCode, type AttestationErrorDetails } from './errors.ts';
export {
  type BootLog,
  type BootLogEvent,
  type BootLogHash,
  EV_NO_ACTION,
  EV_SEPARATOR,
  parseBootLog,
} from './events/boot-log.ts';
export { ccelEvents } from './events/ccel.ts';
export { EVENT, isReservedEvent } from './events/event-names.ts';
export { identityEvents, type MeasuredIdentity } from './events/identity-events.ts';
export { replayDigests } from './events/replay.ts';
export {
  findEvent,
  RUNTIME_EVENT_TYPE,
  replayRuntimeEvents,
  runtimeEventDigest,
} from './events/runtime-events.ts';
export { stripEvent, stripForCertificate } from './events/strip.ts';
export {
  checkSystemEvents,
  SYSTEM_EVENTS,
  type SystemEventRule,
  systemPayloads,
} from './events/system-events.ts';
export { requireExpectedReportData } from './expected-report-data.ts';
export { type AkRules, verifyAkCertificate } from './gcp-tdx/ak-certificate.ts';
export { GCE_TDX_PCR0 } from './gcp-tdx/gce-firmware.ts';
export { type GoogleCollateralOptions, googleTpmCollateral } from './gcp-tdx/google-collateral.ts';
export { tpmCollateralFromJson, tpmCollateralToJson } from './gcp-tdx/tpm-collateral-json.ts';
export {
  type BootInfo,
  type BootInfoOptions,
  bootInfo,
  type VerifiedBootInfo,
} from './measurements/boot-info.ts';
export {
  type DerivedFrom,
  type DerivedValues,
  gcpTdxValues,
  tdxValues,
} from './measurements/derived-values.ts';
export { encodeGcpDocument } from './measurements/image/gcp-image.ts';
export { measureTdxImage, type TdxImageParts } from './measurements/image/measure-tdx-image.ts';
export { MAX_FIRMWARE_BYTES } from './measurements/image/tdvf.ts';
export {
  encodeTdxDocument,
  parseTdxDocument,
  type TdxMeasurementDocument,
} from './measurements/image/tdx-document.ts';
export type { TdxRegisterRequest, TdxRegisterSource } from './measurements/image/tdx-image.ts';
export type { TdxRegisters } from './measurements/image/tdx-lite.ts';
export {
  type ImageInspection,
  inspectOsImage,
  needsOsImage,
  type OsImageOptions,
  type VerifiedOsImage,
  verifyOsImage,
} from './measurements/image/verify-os-image.ts';
export { type CoseSign1, parseCoseSign1 } from './nitro/cose-sign1.ts';
export { type NitroDocument, parseNitroDocument } from './nitro/document.ts';
export { type VerifiedDocument, verifyNitroDocument } from './nitro/verify-document.ts';
export { nitroResult, requireImagePcrs } from './nitro/verify-nitro.ts';
export { nitroTpmResult } from './nitro-tpm/verify-nitro-tpm.ts';
export type * from './platform-evidence.ts';
export { type ReportDataHash, type ReportDataInput, ratlsReportData, reportData } from './report-data.ts';
export {
  addRoot,
  hasSimulatedRoot,
  ROOT_NAMES,
  type RootName,
  replaceRoot,
  withTdxRoot,
} from './roots/replace-root.ts';
export type { TrustRoot, TrustRoots } from './roots/trust-roots.ts';
export { vendorRoots } from './roots/vendor-roots.ts';
export { SNP_REPORT_BYTES } from './snp/report.ts';
export { snpResult, type VerifiedReport, verifySnpReport } from './snp/verify-snp.ts';
export { type SnpPolicyConfig, snpPolicyFromConfig } from './tcb-policy/snp-policy.ts';
export {
  type AppraisalResult,
  appraiseTcb,
  type TcbPolicy,
  type TcbPolicyInput,
} from './tcb-policy/tcb-policy.ts';
export { mergeAdvisories, TCB_STATUSES, type TcbStatus, worstStatus } from './tcb-status.ts';
export { dcapCollateralFromJson, dcapCollateralToJson } from './tdx/collateral-json.ts';
export { staticCollateral } from './tdx/static-collateral.ts';
export { type VerifiedQuote, verifyBareQuote } from './tdx/verify-bare-quote.ts';
export { verifyDcap } from './tdx/verify-dcap.ts';
export type { DcapResult, TdxEvidence } from './tdx-evidence.ts';
export {
  type CertificationData,
  type EnclaveReport,
  parseTdxQuote,
  type TdReport,
  type TdxQuote,
} from './tdx-quote/quote.ts';
export { parseTpmsAttest, type TpmsAttest } from './tpm/tpms-attest.ts';
export { parseTpmtSignature, type TpmSignature, tpmSignatureFromDer } from './tpm/tpmt-signature.ts';
export { type QuotedPcr, type QuoteInput, verifyTpmQuote } from './tpm/verify-quote.ts';
export {
  boundMethods,
  INTEL_PCS,
  type VendorCollateralOptions,
  vendorCollateral,
} from './vendor-collateral.ts';
export { type Inspection, inspectAttestation, verifyAttestation, verifyContext } from './verify.ts';
export type {
  PlatformOptions,
  PlatformResult,
  PlatformVerifier,
  VerifiedAttestation,
  VerifyContext,
  VerifyOptions,
} from './verify-context.ts';
export {
  type Certificate,
  type CertificateExtension,
  extensionValue,
  type KeyUsage,
  nameAttribute,
  parseCertificate,
  parseCertificateChain,
} from './x509/certificate.ts';
export { type CertificateRevocationList, parseCrl } from './x509/crl.ts';
export { derForms } from './x509/der-form.ts';
export { rootCertificate } from './x509/root-certificate.ts';
export { type PathRules, type ValidatedPath, validatePath } from './x509/validate-path.ts';
