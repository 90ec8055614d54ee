/** Following the chain: what programs beside the policy need to read it with the same care. */
export { backendUrl, isPlainRemote, publicUrl } from './backend-url.ts';
export { type ChainSettings, chainSettings } from './chain/chain-options.ts';
export { type Block, blockCall, blockFromAnswer, blockKey, resultOf } from './chain/rpc/block.ts';
export { inTurns } from './chain/rpc/in-turns.ts';
export { askWhole, callResult, callsAt, Reverted, readsAt } from './chain/rpc/pinned-calls.ts';
export { agreeing, collectVotes, noQuorum } from './chain/rpc/quorum.ts';
export type { RpcAnswer, RpcCall } from './chain/rpc/rpc-answer.ts';
export { RpcEndpoint } from './chain/rpc/rpc-endpoint.ts';
export { KnownHeads } from './chain/snapshot/known-heads.ts';
export { type ChainSnapshot, readSnapshot } from './chain/snapshot/read-snapshot.ts';
export { type Connections, exchange, openConnections } from './http/http-exchange.ts';
