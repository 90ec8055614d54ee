export {
  type AppKeys,
  deriveAppCaKey,
  deriveAppKeys,
  deriveEnvPublicKey,
  issuedKeyMessage,
  type RootKeys,
} from './app-keys.ts';
export { appKeysFromSeed, type SeedKeys } from './app-keys-from-seed.ts';
export { bootstrapReportData } from './bootstrap-report-data.ts';
export { deriveDhSecret, deriveP256Key, deriveP256Scalar } from './derive.ts';
export {
  type EnvKeyName,
  type EnvPublicKeyClaim,
  signEnvPublicKey,
  signNamedEnvPublicKey,
  verifyEnvPublicKey,
} from './env-public-key.ts';
export { KeysError, type KeysErrorCode } from './errors.ts';
export {
  type DerivedKey,
  ed25519PublicKey,
  getKey,
  type KeyAlgorithm,
  type SignatureChainClaim,
  verifySignatureChain,
} from './get-key.ts';
export { type Context, hkdf } from './hkdf.ts';
export {
  k256Backend,
  k256PublicKey,
  recoverK256,
  recoverK256Digest,
  signK256,
  signK256Digest,
} from './k256.ts';
export { keccak256 } from './keccak256.ts';
export { generateP256Key, type P256Key, p256KeyFromPem, p256KeyFromScalar, p256KeyPem } from './p256-key.ts';
export { rootId } from './root-id.ts';
export { openSealedBox, sealBox } from './sealed-box.ts';
export {
  decryptEnv,
  type EnvVariable,
  encryptEnv,
  type SealOptions,
  sealEnv,
  sealedEnvLength,
} from './sealed-env.ts';
export { signData, verifyData } from './sign-data.ts';
export { x25519PublicKey, x25519SharedSecret } from './x25519.ts';
