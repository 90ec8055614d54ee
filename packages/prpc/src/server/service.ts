import type { DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { EmptySchema } from '@bufbuild/protobuf/wkt';

type Output<M extends DescMethod> = M['output'] extends typeof EmptySchema
  ? void | Promise<void>
  : MessageInitShape<M['output']> | Promise<MessageInitShape<M['output']>>;

/** Handlers of one service, named as in the .proto file. What is missing answers "Service not found". */
export type ServiceMethods<S extends DescService, C> = {
  [K in keyof S['method'] as Capitalize<K & string>]?: S['method'][K] extends DescMethod
    ? (request: MessageShape<S['method'][K]['input']>, context: C) => Output<S['method'][K]>
    : never;
};

/** One service with its handlers, as createPrpcHandler takes it. */
export type ServiceImplementation<C> = {
  readonly service: DescService;
  readonly methods: ServiceMethods<DescService, C>;
};

/** Ties handlers to their service with full types; use it for each entry of `Mount.services`. */
export function implement<S extends DescService, C>(
  service: S,
  methods: ServiceMethods<S, C>,
): ServiceImplementation<C> {
  return { service, methods: methods as unknown as ServiceMethods<DescService, C> };
}
