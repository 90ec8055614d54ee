/** Runs vitest as a child and reads its counts. */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of this repository. */
export const repository: string = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');

/** What a test run counted. `failed` is never 0 when the runner itself failed. */
export type Counts = {
  passed: number;
  failed: number;
  skipped: number;
  /** A line or two for each failed test: file, name, how its message begins. */
  failures: string[];
};

/** As much of vitest's JSON report as is read here. */
type Report = {
  numPassedTests?: number;
  numFailedTests?: number;
  numPendingTests?: number;
  testResults?: {
    name: string;
    status: string;
    message?: string;
    assertionResults: { fullName: string; status: string; failureMessages?: string[] | null }[];
  }[];
};

const MESSAGE_CHARACTERS = 600;

/** Runs `vitest run` with these arguments, its output on this terminal. */
export async function runVitest(args: readonly string[]): Promise<Counts> {
  const directory = await mkdtemp(join(tmpdir(), 'dstack-test-'));
  const report = join(directory, 'report.json');
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const status = await spawned(['run', ...reporters, ...args]);
    const read = JSON.parse(await readFile(report, 'utf8').catch(() => '{}')) as Report;
    const { numPassedTests = 0, numFailedTests = 0, numPendingTests = 0 } = read;
    // A file that does not load, an unhandled rejection: no failed test, yet the run is red.
    const failed = status === 0 ? numFailedTests : Math.max(1, numFailedTests);
    return { passed: numPassedTests, failed, skipped: numPendingTests, failures: failuresOf(read) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function failuresOf({ testResults = [] }: Report): string[] {
  return testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(repository, name);
    const failed = assertionResults.filter((test) => test.status === 'failed');
    if (failed.length === 0 && status === 'failed') return [`${file}\n  ${begin(message)}`];
    return failed.map(
      ({ fullName, failureMessages }) => `${file}: ${fullName}\n  ${begin(failureMessages?.[0])}`,
    );
  });
}

const begin = (message = ''): string => message.slice(0, MESSAGE_CHARACTERS).trimEnd();

interface EndToEndTest {
  readonly name: string;
  readonly title: string;
  readonly file: string;
}

/** The tests that a name stands for: those of this name, else those of the file of this name. */
export function testsCalled(name: string, tests: readonly EndToEndTest[]): readonly EndToEndTest[] {
  const called = tests.filter((test) => test.name === name);
  return called.length > 0 ? called : tests.filter(({ file }) => basename(file) === `${name}.test.ts`);
}

/**
 * Names of the end-to-end tests: the text before the first colon of each test below test/e2e. Listing them loads their files
 * with everything that these import, which takes long on a busy machine, so files with none of the names asked for are left
 * out, unless a name is found nowhere.
 */
export async function endToEndTests(names: readonly string[] = []): Promise<EndToEndTest[]> {
  const files = await filesWith(names);
  const found = files.length === 0 ? [] : await listed(files);
  const areAll = names.length > 0 && names.every((name) => testsCalled(name, found).length > 0);
  return areAll ? found : await listed(['test/e2e']);
}

async function filesWith(names: readonly string[]): Promise<string[]> {
  const folder = join(repository, 'test/e2e');
  const files = (await readdir(folder)).filter((file) => file.endsWith('.test.ts'));
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  return files
    .filter((file, index) =>
      names.some((name) => texts[index]?.includes(`${name}:`) || file === `${name}.test.ts`),
    )
    .map((file) => `test/e2e/${file}`);
}

async function listed(files: readonly string[]): Promise<EndToEndTest[]> {
  const directory = await mkdtemp(join(tmpdir(), 'dstack-test-'));
  const list = join(directory, 'list.json');
  try {
    const status = await spawned(['list', ...files, `--json=${list}`], 'ignore');
    if (status !== 0) throw new Error(`vitest list ended with ${status}`);
    const entries = JSON.parse(await readFile(list, 'utf8')) as Array<{ name: string; file: string }>;
    return entries.map(({ name, file }) => {
      const title = name.split(' > ').at(-1) ?? name;
      return { name: title.split(':')[0] ?? title, title, file };
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function spawned(args: readonly string[], stdout: 'inherit' | 'ignore' = 'inherit'): Promise<number> {
  return new Promise((resolvePromise, reject) => {
    const child = spawn(process.execPath, [vitest, ...args], {
      cwd: repository,
      stdio: ['ignore', stdout, 'inherit'],
    });
    child.once('error', reject);
    child.once('exit', (code) => resolvePromise(code ?? 1));
  });
}
