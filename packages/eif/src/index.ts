export { AWS_BOOT_PCR } from './build/aws-boot-pcr.ts';
export { type BootFiles, type BootFilesOptions, openBootFiles } from './build/boot-files.ts';
export { type BuildEifOptions, type BuiltEif, buildEif } from './build/build-eif.ts';
export { type ByteSource, bytesSource, type FileSource, openSource } from './byte-source.ts';
export { describeEif, type EifDescription } from './describe.ts';
export { EifError, type EifErrorCode } from './errors.ts';
export type { Architecture, EifHeader } from './format/header.ts';
export type { EifMetadata } from './format/metadata.ts';
export type { Section, SectionName } from './format/sections.ts';
export { osImageHash, PcrHasher, type Pcrs } from './measure/pcrs.ts';
export { type Eif, readEif } from './measure/read-eif.ts';
export {
  type Measurements,
  measurements,
  measurementsFile,
  PCR_NAMES,
  type PcrName,
  parseMeasurements,
} from './measurements.ts';
export { type UnpackedApplication, unpackApplication } from './root/unpack-application.ts';
export { commandSigner } from './sign/command-signer.ts';
export { type SignEifOptions, signEif } from './sign/sign-eif.ts';
export { type EifSigner, keySigner } from './sign/signer.ts';
export { type VerifyEifOptions, verifyEif } from './verify.ts';
