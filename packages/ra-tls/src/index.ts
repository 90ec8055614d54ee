export { type AppInfo, appInfoOf, decodeAppInfo, encodeAppInfo } from './certificate/app-info.ts';
export {
  type CertificateFields,
  certificatePem,
  DEFAULT_NOT_BEFORE,
  type Issuer,
  issueCertificate,
  issuerOf,
} from './certificate/issue-certificate.ts';
export { parseRaTlsCertificate, type RaTlsCertificate } from './certificate/parse-ra-tls-certificate.ts';
export {
  type AppLeafInput,
  appCa,
  appLeaf,
  localRootCa,
  rootCa,
  rpcCertificate,
  tempCa,
  tempClient,
} from './certificate/profiles.ts';
export { type PeerVerifyOptions, verifyPeerAttestation } from './certificate/verify-peer-attestation.ts';
export { type CsrRules, checkCsrConfig } from './csr/check-csr-config.ts';
export { createCsr } from './csr/create-csr.ts';
export {
  CONFIRM_WORD,
  type CsrConfig,
  type CsrV1,
  type CsrV2,
  decodeCsrV1,
  decodeCsrV2,
  encodeCsrV1,
  encodeCsrV2,
  MAX_CSR_BYTES,
} from './csr/csr.ts';
export { signCsr, type VerifiedCsr, verifyCsr } from './csr/verify-csr.ts';
export { RaTlsError, type RaTlsErrorCode, type RaTlsErrorDetails } from './errors.ts';
export { fetchNonce } from './kms/fetch-nonce.ts';
export { type KmsClient, kmsBaseUrl, kmsClient } from './kms/kms-client.ts';
export {
  type KeyName,
  type KmsPins,
  type KmsProgress,
  type ObtainAppKeysOptions,
  type ObtainedKeys,
  obtainAppKeys,
} from './kms/obtain-app-keys.ts';
export { pinnedRootsOf } from './kms/pinned-roots.ts';
export { type TempClientInput, tempClientIdentity } from './kms/temp-client-identity.ts';
export type { DistinguishedName } from './names/distinguished-name.ts';
export { OID, USAGE } from './oid.ts';
export { type Dial, type RaTlsAgentOptions, raTlsAgent } from './tls/agent.ts';
export type { ServerRules } from './tls/check-server.ts';
export {
  type Peer,
  type PeerCertificate,
  type PeerVerifier,
  peerOf,
  readThen,
  type ShownVerifier,
} from './tls/peer.ts';
export {
  createRaTlsServer,
  type RaTlsServerOptions,
  reloadCertificate,
  type ServerCertificate,
  type SessionEvent,
} from './tls/server.ts';
export { glanceAt, type ShownCertificate } from './tls/shown-certificate.ts';
