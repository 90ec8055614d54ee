/**
 * Puts an image into a cache, and ends its own process with SIGKILL at the n-th file operation; or, as `full`, tries
 * once for each operation with a disk that is full then, and prints what came of it. For the crash test.
 */
import { existsSync, readFileSync } from 'node:fs';
import { ImageCache } from '../image/image-cache.ts';
import { plan } from './counting-fs.ts';

const [directory = '', archive = '', hash = '', how = 'kill', at = '0'] = process.argv.slice(2);

async function attempt(): Promise<string> {
  const cache = new ImageCache({
    directory,
    urlTemplate: 'http://localhost/{OS_IMAGE_HASH}',
    timeoutMs: 10_000,
    maxDownloadBytes: 1 << 20,
    maxUnpackedBytes: 1 << 20,
    fetch: async () => new Response(readFileSync(archive)),
    onLookup: () => undefined,
    onDamaged: () => undefined,
  });
  plan.operations = 0;
  try {
    await cache.parts(hash, new AbortController().signal);
    return 'stored';
  } catch (error) {
    return (error as Error).message;
  }
}

if (how === 'full') {
  const outcomes: [string, boolean][] = [];
  plan.how = 'full';
  do {
    plan.at += 1;
    const outcome = await attempt();
    outcomes.push([outcome, existsSync(`${directory}/images/${hash}`)]);
  } while (plan.operations >= plan.at && plan.at < 500 && outcomes.at(-1)![0] !== 'stored');
  process.stdout.write(JSON.stringify(outcomes));
} else {
  plan.at = Number(at);
  process.stdout.write(`${await attempt()} ${plan.operations}`);
}
