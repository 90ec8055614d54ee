import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RpcErrorCode } from '../errors.ts';
import type { ServiceImplementation } from './service.ts';

/** Body limit of a request unless the mount names another one: enough for all that carries no evidence and no user data. */
export const DEFAULT_BODY_LIMIT: number = 64 * 1024;

/** The original's limit of any body, for callers who are trusted with so much. */
export const LARGE_BODY_LIMIT: number = 10 * 1024 * 1024;

/** Bytes of unfinished bodies held at once unless the handler names another number. */
export const DEFAULT_BUFFERED_BYTES: number = 128 * 1024 * 1024;

/** Where a listener serves RPC methods. */
export type Mount<C> = {
  /** `/prpc`, `/api` or `/`. */
  readonly path: string;
  /** Prefixes removed, repeatedly, from the method segment: `KMS.`; other services' prefixes are not known here. */
  readonly trim?: string | readonly string[];
  /** Looked through in order; the first that implements the method answers. */
  readonly services: readonly ServiceImplementation<C>[];
  /** Body limits in bytes by trimmed method name. */
  readonly limits?: Readonly<Record<string, number>>;
  /** Of all other methods; `DEFAULT_BODY_LIMIT` when absent. */
  readonly bodyLimit?: number;
  /** Status of "Service not found"; 400 as the original answers, 404 as its later versions do. */
  readonly unknownMethodStatus?: 400 | 404;
};

/** A whole answer outside RPC. */
export type PlainResponse = {
  readonly status?: number;
  /** Content type; `text/plain; charset=utf-8` when absent. */
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array;
};

/** A path outside RPC, served to GET and HEAD (or the method it names). A path may end in `/*`. */
export type PlainRoute = {
  readonly method?: 'GET' | 'POST';
  readonly path: string;
  /** Returns the answer, or `handled` after writing to `response` itself (a stream). */
  readonly handle: (
    request: IncomingMessage,
    response: ServerResponse,
    url: { readonly path: string; readonly query: string },
  ) => PlainResponse | 'handled' | Promise<PlainResponse | 'handled'>;
};

/** What is known about one finished RPC call; for logs and metrics. */
export type CallRecord = {
  /** Trimmed method name as the caller wrote it; `known` tells whether it exists here. */
  readonly method: string;
  readonly known: boolean;
  readonly mount: string;
  readonly status: number;
  readonly durationMs: number;
  readonly json: boolean;
  readonly request: IncomingMessage;
  readonly error?: unknown;
};

export type PublicError = { readonly text: string; readonly code?: RpcErrorCode; readonly status: number };

export type PrpcHandlerOptions<C> = {
  readonly mounts: readonly Mount<C>[];
  readonly routes?: readonly PlainRoute[];
  /** Makes the context of a call, before its method is looked up; an error it throws is the call's answer. */
  readonly before?: (request: IncomingMessage, call: { method: string; mount: string }) => C | Promise<C>;
  /** Runs before anything else on every path; an answer ends the request (authentication, rate limits). */
  readonly guard?: (
    request: IncomingMessage,
  ) => PlainResponse | undefined | Promise<PlainResponse | undefined>;
  /** Added to every answer; `Server`, `X-App-Version`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes of unfinished request bodies held at once, over all requests; default 128 MiB. */
  readonly maxBufferedBytes?: number;
  readonly onCall?: (record: CallRecord) => void;
  /** Told of refusals outside RPC: by the guard, and of paths that are not there. */
  readonly onRefused?: (status: number, request: IncomingMessage) => void;
  /** Turns errors that are no RpcError into public ones; without it they answer "internal error". */
  readonly publicError?: (error: unknown) => PublicError | undefined;
};
