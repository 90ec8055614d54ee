export { runtimeTdxEvent } from './boot-events.ts';
export { detectPlatform, isOnGce, PLATFORM_PATHS, type PlatformPaths } from './detect-platform.ts';
export type { EvidenceDevice } from './evidence-device.ts';
export { RuntimeEventLog } from './log/runtime-event-log.ts';
export { type PartitionExtent, resizePartition } from './native/resize-partition.ts';
export { notifyServiceManager } from './native/service-manager.ts';
export { connectVsock, HOST_CID, listenVsock, type VsockListener } from './native/vsock.ts';
export { Nsm, type NsmAttestationInput, type NsmDescription } from './nsm/nsm.ts';
export { type DeviceOptions, openDevice } from './open-device.ts';
export { type GcpTdxDeviceOptions, openGcpTdxDevice, tpmEvents } from './open-gcp-tdx-device.ts';
export { type NitroDeviceOptions, nitroImageHash, openNitroDevice } from './open-nitro-device.ts';
export { openTdxDevice, readFirmwareLog, type TdxDeviceOptions } from './open-tdx-device.ts';
export { GCE_AK_INDICES, type GceAttestationKey, gceAttestationKey } from './tpm/gce-attestation-key.ts';
export { requireMeasuredImage } from './tpm/measured-image.ts';
export {
  approvedBytes,
  isApprovedBy,
  parseSealApproval,
  requireSealApproval,
  type SealApproval,
  serializeSealApproval,
} from './tpm/seal-approval.ts';
export {
  approverHash,
  findSealRequest,
  formatSealRequest,
  SEALED_PCR_NAMES,
  type SealRequest,
} from './tpm/seal-request.ts';
export { openSealedSeed, presentPolicy, type SealedSeed, type SealedSeedOptions } from './tpm/sealed-seed.ts';
export { Tpm, withTpm } from './tpm/tpm.ts';
export { type TpmIdentity, tpmHandles, tpmIdentity, tpmPcrBanks } from './tpm/tpm-capabilities.ts';
export { HANDLE, type PcrBank } from './tpm/tpm-constants.ts';
export { createPrimary, type LoadedObject } from './tpm/tpm-keys.ts';
export { type NvPublic, nvDefine, nvRead, nvReadPublic, nvUndefine, nvWrite } from './tpm/tpm-nv.ts';
export { extendPcr, type PcrReading, readPcrs } from './tpm/tpm-pcr.ts';
export { tpmQuote } from './tpm/tpm-quote.ts';
export { tpmRandom } from './tpm/tpm-random.ts';
export { TpmResponseError } from './tpm/tpm-response-error.ts';
export { openTpmTransport, type TpmTransport } from './tpm/tpm-transport.ts';
export { isEndpoint } from './tsm/open-files.ts';
