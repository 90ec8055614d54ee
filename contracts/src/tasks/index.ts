/** Operator tasks on the contracts, for the command lines. */
export { awaitReceipt } from './await-receipt.ts';
export { callOfTask } from './call-of-task.ts';
export { connectTask, type SigningChain, type TaskChain } from './connect-task.ts';
export { deployCode, deployContract } from './deploy-contract.ts';
export { decodeRevert, explainFailure, explainRevert, isRevert, revertData } from './explain-revert.ts';
export { addressValue, listedHashValue } from './hex-values.ts';
export { networkOf } from './networks.ts';
export { rpcTransport } from './rpc-transport.ts';
export { runTask, type TaskSurroundings, taskHelp, taskJson, tasks } from './run-task.ts';
export type { Sender } from './sender.ts';
export {
  costValue,
  MAX_COST,
  type Sending,
  type SignedTransaction,
  signTransaction,
} from './sign-transaction.ts';
export { findSigner } from './signer.ts';
export type { TaskCall } from './task.ts';
export type { TaskTerminal } from './terminal.ts';
export { implementationOf, refuseOldLayout, requireUups } from './upgrade-task.ts';
export { safeBatch, unsignedOf } from './wrap-call.ts';
