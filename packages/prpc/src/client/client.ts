import {
  create,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { EmptySchema } from '@bufbuild/protobuf/wkt';
import { PrpcError, RpcError, type RpcErrorCode } from '../errors.ts';
import { decodeJson } from '../json/decode-json.ts';
import { encodeJson } from '../json/encode-json.ts';

/** Carries one request to a server and brings its answer back. */
export type PrpcTransport = {
  call(request: {
    readonly method: string;
    readonly json: boolean;
    readonly body: Uint8Array;
    readonly signal?: AbortSignal;
  }): Promise<{ readonly status: number; readonly body: Uint8Array }>;
  close(): void;
};

/** The methods of a service as functions, in camel case: `client.getAppKey({ apiVersion: 1 })`. */
export type PrpcClient<S extends DescService> = {
  [K in keyof S['method']]: S['method'][K] extends DescMethod
    ? (
        request?: MessageInitShape<S['method'][K]['input']>,
        options?: { readonly signal?: AbortSignal },
      ) => Promise<MessageShape<S['method'][K]['output']>>
    : never;
};

export type PrpcClientOptions = {
  /** JSON by default, as the original's clients; every server of either kind takes it. */
  readonly format?: 'json' | 'binary';
};

/**
 * A typed client. Calls throw RpcError with the server's own text when it answers an error, and PrpcError when
 * there is no usable answer.
 */
export function createPrpcClient<S extends DescService>(
  service: S,
  transport: PrpcTransport,
  options: PrpcClientOptions = {},
): PrpcClient<S> {
  const json = options.format !== 'binary';
  const client: Record<string, unknown> = {};
  for (const method of service.methods) {
    client[method.localName] = async (
      request: MessageInitShape<typeof method.input> = {},
      { signal }: { signal?: AbortSignal } = {},
    ) => {
      const message = create(method.input, request);
      const body = json
        ? new TextEncoder().encode(encodeJson(method.input, message))
        : toBinary(method.input, message);
      const answer = await transport.call({
        method: method.name,
        json,
        body,
        ...(signal === undefined ? {} : { signal }),
      });
      return readAnswer(method, answer, json);
    };
  }
  return client as PrpcClient<S>;
}

function readAnswer(
  method: DescMethod,
  answer: { status: number; body: Uint8Array },
  json: boolean,
): unknown {
  const { status, body } = answer;
  if (status < 200 || status > 299) throw remoteError(status, body, json);
  if (method.output.typeName === EmptySchema.typeName) return create(method.output);
  try {
    if (!json) return fromBinary(method.output, body);
    return decodeJson(method.output, new TextDecoder().decode(body), { lenientNumbers: true });
  } catch (error) {
    throw new PrpcError('bad_response', `The answer to ${method.name} could not be read`, { cause: error });
  }
}

const codes: readonly string[] = [
  'UNAUTHORIZED',
  'MEASUREMENT_NOT_FOUND',
  'KEY_NOT_FOUND',
  'INVALID_ARGUMENT',
  'UNIMPLEMENTED',
  'RATE_LIMITED',
  'UNAVAILABLE',
  'INTERNAL_ERROR',
] satisfies RpcErrorCode[];

/** Longest part of a foreign error text that is kept. */
const MAX_ERROR_TEXT = 4096;

function remoteError(status: number, body: Uint8Array, json: boolean): RpcError {
  const text = new TextDecoder().decode(body.subarray(0, 4 * MAX_ERROR_TEXT));
  if (json) {
    try {
      const { error, code } = JSON.parse(text) as { error?: unknown; code?: unknown };
      if (typeof error === 'string') {
        const known = typeof code === 'string' && codes.includes(code);
        return new RpcError(error.slice(0, MAX_ERROR_TEXT), {
          status,
          ...(known ? { code: code as RpcErrorCode } : {}),
        });
      }
    } catch {
      // Not the JSON form: a proxy or another service answered; its status is all there is to say.
    }
  }
  return new RpcError(`The server answered HTTP status ${status}`, { status });
}
