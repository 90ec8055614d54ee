/** Contracts of dstack-cloud: typed ABIs, compiled artifacts, deployment, management, and a local chain. */

export { publicKeyToAddress } from 'viem/utils';
export { dstackAppAbi } from './abi/dstack-app.ts';
export { dstackKmsAbi } from './abi/dstack-kms.ts';
export { type Anvil, type AnvilAccount, type AnvilOptions, startAnvil } from './anvil.ts';
export { APP_FLAGS_SLOT, upgradesDisabledFrom } from './app-flags.ts';
export {
  type Artifact,
  artifactsDirectory,
  type ContractName,
  loadArtifact,
  loadRelease,
  type Release,
  type StorageVariable,
} from './artifact.ts';
export { type BuildResult, buildContracts } from './build.ts';
export { type ChainClient, type ConnectChainOptions, connectChain } from './chain-client.ts';
export { type CompiledContract, compile } from './compile.ts';
export {
  type AppDeployment,
  type DeployAppOptions,
  type DeployKmsOptions,
  deployApp,
  deployAppImplementation,
  deployKms,
  deployKmsImplementation,
  type KmsDeployment,
} from './deploy.ts';
export { ContractsError, type ContractsErrorCode } from './errors.ts';
export { foundryProgram } from './foundry-program.ts';
export {
  addComposeHash,
  addDevice,
  addKmsAggregatedMr,
  addKmsDevice,
  addOsImageHash,
  type KmsInfo,
  type MeasurementWrite,
  readKmsInfo,
  registerApp,
  removeComposeHash,
  removeDevice,
  removeKmsAggregatedMr,
  removeKmsDevice,
  removeOsImageHash,
  setAllowAnyDevice,
  setGatewayAppId,
  setKmsInfo,
} from './manage.ts';
export { deployCode, transact } from './transact.ts';
