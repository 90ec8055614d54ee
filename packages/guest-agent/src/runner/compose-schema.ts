import { z } from 'zod';

/** Names of services, configs and projects. */
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/, 'must be [A-Za-z0-9][A-Za-z0-9_.-]*');
const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()]);
const textOrList = z.union([z.string(), z.array(z.union([z.string(), z.number()]))]);
const mapOrList = z.union([z.record(z.string(), scalar), z.array(z.string())]);
const volume = z.union([
  z.string(),
  z.looseObject({ type: z.string(), source: z.string().optional(), target: z.string() }),
]);
const port = z.union([
  z.string(),
  z.number(),
  z.looseObject({
    target: z.union([z.number(), z.string()]),
    published: z.union([z.number(), z.string()]).optional(),
  }),
]);
const configUse = z.union([z.string(), z.looseObject({ source: z.string(), target: z.string().optional() })]);

/** The members of a service that matter when it runs as a plain process; the rest is for an engine. */
const serviceSchema: z.ZodType<ServiceMembers> = z.looseObject({
  image: z.string().optional(),
  command: textOrList.nullish(),
  entrypoint: textOrList.nullish(),
  environment: mapOrList.nullish(),
  working_dir: z.string().nullish(),
  restart: z.string().nullish(),
  stop_signal: z.string().nullish(),
  stop_grace_period: z.string().nullish(),
  depends_on: z.union([z.array(z.string()), z.record(z.string(), z.unknown())]).nullish(),
  volumes: z.array(volume).nullish(),
  ports: z.array(port).nullish(),
  configs: z.array(configUse).nullish(),
  profiles: z.array(z.string()).nullish(),
});

/** A compose file as far as this runner reads it. */
export const composeSchema: z.ZodType<ComposeMembers> = z.looseObject({
  name: z.string().nullish(),
  services: z.record(name, serviceSchema),
  configs: z.record(name, z.looseObject({ content: z.string().optional() })).nullish(),
});

type Scalar = string | number | boolean | null;

/** Output of {@link serviceSchema}; `null` is a member without a value. */
export interface ServiceMembers {
  image?: string | undefined;
  command?: string | (string | number)[] | null | undefined;
  entrypoint?: string | (string | number)[] | null | undefined;
  environment?: Record<string, Scalar> | string[] | null | undefined;
  working_dir?: string | null | undefined;
  restart?: string | null | undefined;
  stop_signal?: string | null | undefined;
  stop_grace_period?: string | null | undefined;
  depends_on?: string[] | Record<string, unknown> | null | undefined;
  volumes?: (string | { type: string; source?: string | undefined; target: string })[] | null | undefined;
  ports?: unknown[] | null | undefined;
  configs?: (string | { source: string; target?: string | undefined })[] | null | undefined;
  profiles?: string[] | null | undefined;
}

/** Output of {@link composeSchema}. */
export interface ComposeMembers {
  name?: string | null | undefined;
  services: Record<string, ServiceMembers>;
  configs?: Record<string, { content?: string | undefined }> | null | undefined;
}
