/**
 * `npm run release -- --dry-run [--output DIR] [--images] [--json]`: npm tarballs, bills of materials and SHA256SUMS, byte for byte the
 * same each time. Nothing is published: whoever releases uploads the files.
 */
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { binDirectory, distDirectory, repository } from './build/paths.ts';
import { build } from './build.ts';
import { makeRelease } from './release/make-release.ts';

const USAGE = `Usage: npm run release -- --dry-run [--output DIR] [--images] [--json]

  --dry-run     make the files and publish nothing; there is no other way
  --output DIR  default dist/release
  --images      container images of the services as well, in DIR/images
  --json        print the files as JSON`;

surviveClosedOutput();
const { values } = parseArgs({
  options: {
    'dry-run': { type: 'boolean', default: false },
    output: { type: 'string', default: join(distDirectory, 'release') },
    images: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help || !values['dry-run']) {
  if (!values.help) console.error('Nothing is published from here: say --dry-run to make the files');
  console.log(USAGE);
  process.exitCode = values.help ? 0 : 2;
} else {
  const output = resolve(values.output);
  await build();
  await run(process.execPath, [join(repository, 'node_modules/typescript/bin/tsc'), '-b', 'packages/sdk']);
  const files = await makeRelease(repository, output);
  if (values.images)
    await run(process.execPath, [
      ...[join(binDirectory, 'dstack-cloud.js'), 'image', 'container'],
      ...['--output', join(output, 'images')],
    ]);
  if (values.json) console.log(JSON.stringify({ output, files }, null, 2));
  else
    for (const { file, bytes, sha256 } of files)
      console.log(`${sha256}  ${file} (${Math.ceil(bytes / 1024)} KiB)`);
}

async function run(program: string, args: readonly string[]): Promise<void> {
  const code = await new Promise((done, reject) => {
    const child = spawn(program, args, { cwd: repository, stdio: ['ignore', 'ignore', 'inherit'] });
    child.once('error', reject);
    child.once('exit', done);
  });
  if (code !== 0) throw new Error(`${args[0]} ended with ${String(code)}`);
}
