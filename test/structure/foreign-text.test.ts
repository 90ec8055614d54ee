/**
 * What evidence, guests, peers and chains say reaches a terminal, a page or a log through the functions of
 * `encoding/src/printable.ts` alone. Here by reading the sources: every place that writes is found, and either uses them
 * or stands in a table with the reason.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Places that write something else than text of their own, and why it is safe. */
const SAFE: Readonly<Record<string, string>> = {
  'cli/src/run-cli.ts': 'the raw streams, which the context and the report of errors wrap',
  'cli/src/context.ts': 'oneLine, lines and jsonText, which make it printable',
  'cli/src/report-error.ts': 'the text of the function below, made printable there',
  'kms/src/main.ts': 'the usage and the configuration printed as JSON',
  'packages/guest-agent/src/boot/init-scripts.ts':
    "the output of the application's scripts, on its own console",
  'packages/guest-agent/src/runner/run-app.ts': 'the output of the application itself, on its own console',
  'packages/util/src/write-output.ts': 'results: hex, JSON and bytes, which scripts take byte for byte',
  'packages/verifier/page/main.ts': 'an error object for the console of the browser, which shows it as text',
  'packages/verifier/src/command/output.ts': 'the raw streams, which the commands give printable text',
};
/** Text that the program itself is written with. */
const OWN = /USAGE|HELP|VERSION|'dstack-v(mm|sock-proxy) 0\.1\.0|helpInformation|rootPem|ready: /;
const MADE_PRINTABLE = /printable|jsonText|reportText/;

const WRITES = /(process\.(stdout|stderr)\.write|console\.(log|info|warn|error)|\.(stdout|stderr))\(/g;

function sources(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      return /^(node_modules|dist|test|testing|test-support|fixtures|gen|templates)$/.test(entry.name)
        ? []
        : sources(path);
    }
    return /\.ts$/.test(entry.name) && !/\.(test|fixture|d)\.ts$|^testing\.ts$/.test(entry.name)
      ? [path]
      : [];
  });
}

// The simulator and the scripts are tools of development: what they print is their own.
const folders = [
  'cli/src',
  'kms/src',
  'contracts/src',
  ...readdirSync(join(repository, 'packages'))
    .filter((name) => name !== 'tee-simulator')
    .map((name) => `packages/${name}/src`),
  'packages/verifier/page',
];
const files = folders
  .flatMap((folder) => sources(join(repository, folder)))
  .map((path) => ({ name: relative(repository, path), text: readFileSync(path, 'utf8') }));

/** A call from its name to the parenthesis that closes it. */
function callAt(text: string, start: number): string {
  let depth = 0;
  for (let i = text.indexOf('(', start); i < text.length; i++) {
    if (text[i] === '(') depth++;
    if (text[i] === ')' && --depth === 0) return text.slice(start, i + 1);
  }
  return text.slice(start);
}

test('whatever is written to a terminal is printable', () => {
  const found = files.flatMap(({ name, text }) =>
    [...text.matchAll(WRITES)].map((match) => ({ name, call: callAt(text, match.index) })),
  );
  expect(found.length).toBeGreaterThan(20);
  const raw = found.filter(
    ({ name, call }) => !(name in SAFE) && !OWN.test(call) && !MADE_PRINTABLE.test(call),
  );
  expect(raw).toEqual([]);
  const unused = Object.keys(SAFE).filter((name) => !found.some((one) => one.name === name));
  expect(unused).toEqual([]);
});

test('every log writes printable lines', () => {
  const loggers = files.flatMap(({ name, text }) =>
    [...text.matchAll(/\bpino\(/g)].map((match) => ({ name, call: callAt(text, match.index) })),
  );
  expect(loggers.length).toBeGreaterThanOrEqual(4);
  expect(loggers.filter(({ call }) => !call.includes('printableLog('))).toEqual([]);
});

test('no page takes text for markup, and texts go in through one function', () => {
  const markup = files.filter(({ text }) =>
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write/.test(text),
  );
  expect(markup.map(({ name }) => name)).toEqual([]);
  const page = files.filter(({ name }) => name.startsWith('packages/verifier/page/'));
  const direct = page.filter(
    ({ name, text }) =>
      /\.(append|replaceWith|prepend)\(\s*[`'"]|createTextNode/.test(text) && !name.endsWith('/element.ts'),
  );
  expect(direct.map(({ name }) => name)).toEqual([]);
});
