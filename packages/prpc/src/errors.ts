/** Why a message could not be read, or a call could not be made. */
export type PrpcErrorCode =
  | 'bad_json'
  | 'bad_query'
  | 'bad_protobuf'
  | 'bad_response'
  | 'connect_failed'
  | 'timed_out'
  | 'too_large';

/** Failure of the codec or of the client's transport; never the answer of a peer (that is an RpcError). */
export class PrpcError extends Error {
  readonly code: PrpcErrorCode;
  /** HTTP status that a server answers with when this error ends a request. */
  readonly status: number;

  constructor(code: PrpcErrorCode, message: string, options?: ErrorOptions & { status?: number }) {
    super(message, options);
    this.name = 'PrpcError';
    this.code = code;
    this.status = options?.status ?? 400;
  }
}

/** Codes of the documented API (docs/protocol/kms.md section 1.4); sent as JSON key `code` beside `error`. */
export type RpcErrorCode =
  | 'UNAUTHORIZED'
  | 'MEASUREMENT_NOT_FOUND'
  | 'KEY_NOT_FOUND'
  | 'INVALID_ARGUMENT'
  | 'UNIMPLEMENTED'
  | 'RATE_LIMITED'
  | 'UNAVAILABLE'
  | 'INTERNAL_ERROR';

/**
 * What a handler throws to answer with an error, and what a client throws when the peer answered one. The
 * message is public: it goes to the caller word for word. `cause` stays in the log.
 */
export class RpcError extends Error {
  readonly code: RpcErrorCode | undefined;
  readonly status: number;

  constructor(message: string, options?: { code?: RpcErrorCode; status?: number; cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'RpcError';
    this.code = options?.code;
    this.status = options?.status ?? 400;
  }

  /** The same error with an outer context, joined by ": " as the original joins its chain. */
  within(context: string): RpcError {
    const { code, status } = this;
    return new RpcError(`${context}: ${this.message}`, {
      ...(code === undefined ? {} : { code }),
      status,
      cause: this.cause ?? this,
    });
  }
}
