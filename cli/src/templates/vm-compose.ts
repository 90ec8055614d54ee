import { inlineConfig } from './inline-config.ts';
import { VM_SERVICE } from './vm-service.ts';

/** Image of the service unless another one is named. */
export const VM_IMAGE = 'node:20-slim';

/** A web service for a machine that boots an OS image: it runs in the named image, which needs Node and nothing else. */
export function vmCompose(image: string): string {
  return `services:
  web:
    # With a digest or an image ID (sha256:...) nobody can exchange the image; a tag leaves that to host and registry.
    image: ${image}
    command: ["node", "/web.cjs"]
    restart: on-failure
    ports:
      - "8080:8080"
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
    configs:
      - source: web
        target: /web.cjs
configs:
  web:
    content: |
${inlineConfig(VM_SERVICE)}
`;
}
