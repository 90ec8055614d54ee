import { type DescField, type DescMessage, type DescService, ScalarType } from '@bufbuild/protobuf';
import { fieldPresence } from './json/field.ts';

type Json = Record<string, unknown>;

const scalars: Partial<Record<ScalarType, Json>> = {
  [ScalarType.BYTES]: { type: 'string', pattern: '^(0x)*([0-9a-fA-F]{2})*$', description: 'hex' },
  [ScalarType.STRING]: { type: 'string' },
  [ScalarType.BOOL]: { type: 'boolean' },
  [ScalarType.UINT32]: { type: 'integer', minimum: 0, maximum: 4_294_967_295 },
  [ScalarType.UINT64]: { type: 'integer', minimum: 0 },
  [ScalarType.INT64]: { type: 'integer' },
};

/** An OpenAPI 3.1 document of a service's JSON form, from its descriptors. */
export function openApiDocument(
  service: DescService,
  info: { readonly title: string; readonly version: string; readonly mount: string },
): Json {
  const schemas: Json = {
    Error: {
      type: 'object',
      required: ['error'],
      properties: { error: { type: 'string' }, code: { type: 'string' } },
    },
  };
  const paths: Json = {};
  for (const method of service.methods) {
    paths[`${info.mount}/${method.name}`] = {
      post: {
        operationId: method.name,
        parameters: [{ name: 'json', in: 'query', allowEmptyValue: true, schema: { type: 'string' } }],
        requestBody: { content: { 'application/json': { schema: reference(method.input, schemas) } } },
        responses: {
          200: content('The answer', reference(method.output, schemas)),
          400: content('Refused', { $ref: '#/components/schemas/Error' }),
          // 409, 429 with Retry-After, 503.
          default: content('Not now, or not from here', { $ref: '#/components/schemas/Error' }),
        },
      },
    };
  }
  const { title, version } = info;
  return { openapi: '3.1.0', info: { title, version }, paths, components: { schemas } };
}

function content(description: string, schema: Json): Json {
  return { description, content: { 'application/json': { schema } } };
}

function reference(message: DescMessage, schemas: Json): Json {
  if (message.typeName === 'google.protobuf.Empty') return {};
  if (!(message.name in schemas)) {
    schemas[message.name] = {};
    schemas[message.name] = {
      type: 'object',
      properties: Object.fromEntries(message.fields.map((field) => [field.name, property(field, schemas)])),
    };
  }
  return { $ref: `#/components/schemas/${message.name}` };
}

function property(field: DescField, schemas: Json): Json {
  const presence = fieldPresence(field);
  const item =
    field.message === undefined
      ? (scalars[field.scalar ?? ScalarType.STRING] ?? {})
      : reference(field.message, schemas);
  if (presence === 'repeated') return { type: 'array', items: item };
  return presence === 'optional' ? { anyOf: [item, { type: 'null' }] } : item;
}
