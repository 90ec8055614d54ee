export { create, fromBinary, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf';
export {
  createPrpcClient,
  type PrpcClient,
  type PrpcClientOptions,
  type PrpcTransport,
} from './client/client.ts';
export { type HttpTransportOptions, httpTransport } from './client/http-transport.ts';
export { PrpcError, type PrpcErrorCode, RpcError, type RpcErrorCode } from './errors.ts';
export * as gateway from './gen/gateway_pb.ts';
export { Gateway } from './gen/gateway_pb.ts';
export * from './gen/guest_agent_pb.ts';
export * as guestApi from './gen/guest_api_pb.ts';
export * as hostApi from './gen/host_api_pb.ts';
export { HostApi } from './gen/host_api_pb.ts';
export * as kms from './gen/kms_pb.ts';
export { Admin, KMS, Onboard } from './gen/kms_pb.ts';
export * as vmm from './gen/vmm_pb.ts';
export { Vmm } from './gen/vmm_pb.ts';
export { decodeJson, decodeQuery } from './json/decode-json.ts';
export { encodeJson } from './json/encode-json.ts';
export { type JsonExtras, withJsonExtras } from './json/json-extras.ts';
export { JSON_LIMITS } from './json/parse-json.ts';
export { openApiDocument } from './open-api.ts';
export { MAX_WIRE_FIELDS } from './server/check-wire.ts';
export { ConcurrencyLimiter } from './server/concurrency-limiter.ts';
export { configureServer } from './server/configure-server.ts';
export { countRefusal, markProven, takeToll } from './server/connections/connection-guard.ts';
export {
  CONNECTION_LIMITS,
  type ConnectionLimits,
  type Cut,
  LISTEN_BACKLOG,
  MAX_PIPELINED,
  MAX_REFUSALS,
  type TurnedAway,
} from './server/connections/connection-limits.ts';
export { networkOf } from './server/connections/network-of.ts';
export { type GuardedStream, guardStreams } from './server/connections/stream-guard.ts';
export { TokenBuckets } from './server/connections/token-buckets.ts';
export { memoizeEncoding } from './server/encoding.ts';
export { FairTurns } from './server/fair-turns.ts';
export { frameworkAnswer } from './server/framework-answer.ts';
export { createPrpcHandler } from './server/handler.ts';
export { boundedLines, type HeldBack, LINE_LIMITS, LineBudget } from './server/line-budget.ts';
export {
  isOperator,
  type OperatorAccess,
  type PasswordCheck,
  showsCredential,
} from './server/operator/credentials.ts';
export {
  LOGINS_PER_MINUTE,
  type LoginGuard,
  loginGuard,
  TOO_MANY_LOGINS,
} from './server/operator/login-guard.ts';
export { isLoopbackAddress } from './server/operator/loopback-address.ts';
export { comesFromOtherSite } from './server/operator/other-site.ts';
export { passwordCheck } from './server/operator/password-check.ts';
export {
  type CallRecord,
  DEFAULT_BODY_LIMIT,
  LARGE_BODY_LIMIT,
  type Mount,
  type PlainResponse,
  type PlainRoute,
  type PrpcHandlerOptions,
  type PublicError,
} from './server/options.ts';
export { BodyBudget, readBody } from './server/read-body.ts';
export { implement, type ServiceImplementation, type ServiceMethods } from './server/service.ts';
