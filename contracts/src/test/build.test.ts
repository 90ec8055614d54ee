import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { contractsDirectory, loadArtifact } from '../artifact.ts';
import { buildContracts } from '../build.ts';
import { compile } from '../compile.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'dstack-contracts-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const run = promisify(execFile);
const buildModule = resolve(contractsDirectory, 'src/build.ts');

test('two processes at once: one compiles, both succeed, nothing is left behind', async () => {
  const script = `import(${JSON.stringify(buildModule)}).then(async ({ buildContracts }) => {
    const { compiled } = await buildContracts(${JSON.stringify(directory)});
    console.log(compiled);
  })`;
  const node = (): Promise<{ stdout: string }> =>
    run(process.execPath, ['--import', 'tsx', '-C', '@dstack/source', '--input-type=module', '-e', script], {
      cwd: contractsDirectory,
      timeout: 50_000,
    });
  const outputs = await Promise.all([node(), node()]);
  expect(outputs.map(({ stdout }) => stdout.trim()).sort()).toEqual(['false', 'true']);
  expect((await readdir(directory)).sort()).toEqual([
    'DstackApp.json',
    'DstackAttestationRegistry.json',
    'DstackKms.json',
    'DstackTimelock.json',
    'ERC1967Proxy.json',
    'IAppAuth.json',
    'IAppAuthBasicManagement.json',
    'IPolicyDelay.json',
    'IPolicyEpoch.json',
    'build.json',
  ]);
}, 60_000);

test('an up-to-date build is not repeated, a damaged one is', async () => {
  expect(await buildContracts(directory)).toMatchObject({ compiled: false });
  const path = join(directory, 'DstackKms.json');
  const before = (await stat(path)).mtimeMs;
  await buildContracts(directory);
  expect((await stat(path)).mtimeMs).toBe(before);
  await rm(path);
  expect(await buildContracts(directory)).toMatchObject({ compiled: true });
  expect(loadArtifact('DstackKms', directory).contractName).toBe('DstackKms');
});

test('a lock whose holder died does not hold anybody up', async () => {
  const ended = run(process.execPath, ['-e', '']);
  const { pid } = ended.child;
  await ended;
  await rm(join(directory, 'DstackApp.json'));
  await writeFile(join(directory, '.lock'), String(pid));
  const before = performance.now();
  expect(await buildContracts(directory)).toMatchObject({ compiled: true });
  expect(performance.now() - before).toBeLessThan(30_000);
});

test('a missing or broken artifact is reported with the way out', async () => {
  await writeFile(join(directory, 'DstackApp.json'), '{');
  const error = { code: 'artifact-missing', message: expect.stringContaining('npm run build') };
  expect(() => loadArtifact('DstackApp', directory)).toThrow(expect.objectContaining(error));
  expect(() => loadArtifact('DstackApp', join(directory, 'nowhere'))).toThrow(expect.objectContaining(error));
});

test.each([
  ['a syntax error', 'contract X {', /Expected|ParserError/],
  ['an import that is not installed', 'pragma solidity ^0.8.0; import "./nowhere.sol";', /not installed/],
  ['a warning in our sources', 'pragma solidity ^0.8.0; contract X {}', /license/],
])('%s fails the build', (_, source, message) => {
  const sources = new Map([['contracts/X.sol', source]]);
  expect(() => compile(sources, contractsDirectory)).toThrow(
    expect.objectContaining({ code: 'compile-failed', message: expect.stringMatching(message) }),
  );
});
