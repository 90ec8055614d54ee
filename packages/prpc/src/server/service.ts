import type { DescMessage, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { EmptySchema } from '@bufbuild/protobuf/wkt';

/** Handlers of one service, named as in the .proto file. What is missing answers "Service not found". */
export type ServiceMethods<S extends DescService, C> = {
  [K in keyof S['method'] as Capitalize<K & string>]?: Handler<S['method'][K], C>;
};

type Handler<M, C> = M extends { input: infer I extends DescMessage; output: infer O extends DescMessage }
  ? (request: MessageShape<I>, context: C) => Output<O>
  : never;

type Output<O extends DescMessage> = O extends typeof EmptySchema
  ? void | Promise<void>
  : MessageInitShape<O> | Promise<MessageInitShape<O>>;

/** One service with its handlers, as createPrpcHandler takes it. */
export type ServiceImplementation<C> = {
  readonly service: DescService;
  /** By method name; the types are those of the service, which this table has no need to know. */
  readonly methods: Readonly<Record<string, (request: never, context: C) => unknown>>;
};

/**
 * Ties handlers to their service with full types: `implement(KMS)({ GetMeta: (request, context) => ... })`.
 * Two calls, because TypeScript types the handlers' parameters only when the service is known before them.
 */
export function implement<S extends DescService>(
  service: S,
): <C>(methods: ServiceMethods<S, C>) => ServiceImplementation<C> {
  return <C>(methods: ServiceMethods<S, C>) => ({
    service,
    methods: methods as unknown as ServiceImplementation<C>['methods'],
  });
}
