/** Who governs the contracts, and what calls do: read from the chain, in plain words. */
export { GovernanceError, type GovernanceErrorCode } from './errors.ts';
export { type BatchedCall, decodeMultiSend, encodeMultiSend } from './safe/multi-send.ts';
export { previousOwner, readSafe, type SafeState } from './safe/read-safe.ts';
export { multiSendAbi, safeAbi } from './safe/safe-abi.ts';
export { type SafeTx, safeTx, safeTxHash, safeTypedData } from './safe/safe-tx.ts';
export { type ContractState, readContractState } from './state/read-contract-state.ts';
export {
  type Governance,
  type GovernanceQuery,
  type Principal,
  readGovernance,
  readPrincipal,
} from './state/read-governance.ts';
export { type EventLogs, readLogs } from './state/read-logs.ts';
export {
  type Call,
  cancelCall,
  executeCall,
  operationId,
  scheduleCall,
  type TimelockOperation,
} from './timelock/operation.ts';
export {
  type OperationState,
  readTimelock,
  type ScheduledOperation,
  type TimelockState,
} from './timelock/read-timelock.ts';
export { roleIds, roleOf, type TimelockRole } from './timelock/roles.ts';
export { timelockAbi } from './timelock/timelock-abi.ts';
export { type CallInWords, callLines, describeCall, leafCalls } from './words/describe-call.ts';
export {
  type ContractKind,
  type KnownContract,
  type KnownContracts,
  knownContracts,
} from './words/known-contracts.ts';
export { durationText, type Effect, timeText } from './words/sentences.ts';
