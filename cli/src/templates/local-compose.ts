import { inlineConfig } from './inline-config.ts';
import { WEB_SERVICE } from './web-service.ts';

/**
 * A web service that shows what a workload can do with its keys. Its code is part of the compose file, so the compose
 * hash covers it. It runs in a container (image node:20 with the SDK installed) and, without an engine, as a process.
 */
export const LOCAL_COMPOSE: string = `services:
  web:
    image: node:20-slim
    command: ["node", "web.cjs"]
    restart: on-failure
    ports:
      - "\${PORT:-8080}:8080"
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
    configs:
      - source: web
        target: web.cjs
configs:
  web:
    content: |
${inlineConfig(WEB_SERVICE)}
`;
