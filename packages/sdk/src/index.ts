export { getComposeHash } from '@dstack-cloud/app';
export type { Report } from '@dstack-cloud/verifier';
export { type ClientOptions, DstackClient } from './dstack-client.ts';
export { type EnvVar, encryptEnvVars, verifyEnvEncryptPublicKey } from './environment.ts';
export { DstackError, type DstackErrorCode } from './errors.ts';
export {
  AttestedFetcher,
  type AttestedRequest,
  type AttestedResponse,
  attestedClient,
  createRaTlsServer,
  type OwnIdentity,
  type RaTlsServerOptions,
} from './ra-tls.ts';
export { replayRtmrs } from './replay-rtmrs.ts';
export { type SignatureChainClaim, verifySignatureChain } from './signature-chain.ts';
export { type QuoteHash, TappdClient } from './tappd-client.ts';
export type { CallOptions } from './transport.ts';
export type {
  AttestResponse,
  Data,
  EventLogEntry,
  GetKeyResponse,
  GetQuoteResponse,
  GetTlsKeyResponse,
  InfoResponse,
  KeyAlgorithm,
  SignAlgorithm,
  SignResponse,
  TcbInfo,
  TlsKeyOptions,
  VersionResponse,
} from './types.ts';
export { type Trust, verifyCertificate, verifyEvidence } from './verify-evidence.ts';
