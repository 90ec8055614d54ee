/** Who governs the contracts, and what calls do: read from the chain, in plain words. */
export { GovernanceError, type GovernanceErrorCode } from './errors.ts';
export { type GovernanceFile, readGovernanceFile } from './governance-file.ts';
export { checkHealth, worstLevel } from './health/check-health.ts';
export type { HealthFacts, HealthLevel, HealthRow } from './health/health-row.ts';
export { announceCall } from './propose/announce-call.ts';
export { callsOfTransaction, makesCall } from './propose/made-calls.ts';
export { type CallGroup, groupByAuthority, type Route, routeOf, stepRoute } from './propose/route.ts';
export { simulateCalls } from './propose/simulate-calls.ts';
export { simulateExecution, simulateTransaction } from './propose/simulate-transaction.ts';
export { type BatchedCall, decodeMultiSend, encodeMultiSend } from './safe/multi-send.ts';
export {
  mergeProposals,
  type Proposal,
  proposalHash,
  readProposal,
  writeProposal,
} from './safe/proposal-file.ts';
export { readApprovals } from './safe/read-approvals.ts';
export { previousOwner, readSafe, type SafeState } from './safe/read-safe.ts';
export { multiSendAbi, safeAbi } from './safe/safe-abi.ts';
export {
  canonicalSafeContract,
  isKnownSingleton,
  isSafeContract,
  type SafeContractName,
  safeArtifact,
  safeProxyCodeHash,
} from './safe/safe-contracts.ts';
export { createSafe, type NewSafe } from './safe/safe-proxy.ts';
export { type SafeTx, safeTx, safeTxHash, safeTypedData } from './safe/safe-tx.ts';
export {
  type Confirmation,
  ownersAmong,
  ownersWhoSigned,
  packSignatures,
  recoverSigner,
} from './safe/signatures.ts';
export { type TransactionService, transactionService } from './safe/transaction-service.ts';
export { ifPresent } from './state/absent.ts';
export { type ContractState, readContractState } from './state/read-contract-state.ts';
export {
  type Governance,
  type GovernanceQuery,
  type Principal,
  readGovernance,
  readPrincipal,
} from './state/read-governance.ts';
export { type EventLogs, readLogs } from './state/read-logs.ts';
export { sameGovernance } from './state/same-governance.ts';
export { decodeOperation } from './timelock/decode-operation.ts';
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
export { isUnprotected } from './words/unprotected.ts';
