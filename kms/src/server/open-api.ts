import type { PlainRoute } from '@dstack-cloud/prpc';
import { openApiDocument } from '@dstack-cloud/prpc';
import { VERSION } from '../version.ts';

type Service = Parameters<typeof openApiDocument>[0];

/** `/prpc/openapi.json`, made from the proto descriptors. */
export function openApiRoute(service: Service, title: string): PlainRoute {
  let text: string | undefined;
  return {
    path: '/prpc/openapi.json',
    handle: () => {
      text ??= JSON.stringify(openApiDocument(service, { title, version: VERSION, mount: '/prpc' }));
      return { type: 'application/json', body: text };
    },
  };
}
