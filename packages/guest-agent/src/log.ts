import { printableLog } from '@dstack-cloud/encoding';
import { boundedLines } from '@dstack-cloud/prpc';
import { destination, type Logger, pino } from 'pino';

export type { Logger };

/** Members that are never printed, wherever they are. */
const SECRET = ['key', 'keys', 'secret', 'env', 'tmp_ca_key', '*.key', '*.keys', '*.secret', '*.env'];

/** One line of JSON per message on stderr, written at once: a guest may be cut off at any moment. */
export function createLogger(name: string): Logger {
  const level = process.env['LOG_LEVEL'] ?? 'info';
  return pino(
    {
      name,
      level,
      base: { name },
      redact: { paths: SECRET, censor: '[secret]' },
      hooks: boundedLines().hooks,
    },
    printableLog(destination({ dest: 2, sync: true })),
  );
}
