/**
 * The one way to recorded evidence and exchanges. They lie outside this repository: `DSTACK_FIXTURES` names
 * the directory, else `../shared/fixtures` beside the checkout. Without them the tests that need them are
 * skipped, with the reason in their name, so that a bare clone still passes.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, it } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Directory of the fixtures; it may not exist. */
export const fixturesDirectory: string =
  process.env['DSTACK_FIXTURES'] || resolve(repository, '../shared/fixtures');

/** Absolute path of one fixture. */
export function fixturePath(path: string): string {
  return resolve(fixturesDirectory, path);
}

/** The bytes of one fixture. */
export function fixture(path: string): Uint8Array {
  return new Uint8Array(readFileSync(fixturePath(path)));
}

/** The text of one fixture. */
export function fixtureText(path: string): string {
  return readFileSync(fixturePath(path), 'utf8');
}

/** One JSON fixture, parsed. */
export function fixtureJson<T>(path: string): T {
  return JSON.parse(fixtureText(path)) as T;
}

/**
 * `describe` for tests that need fixtures below `path`; skipped with a reason when they are absent. The body, which may
 * read them, is then not run at all (`describe.skip` would run it to collect its tests).
 */
export function describeWithFixtures(name: string, path: string, body: () => void): void {
  if (existsSync(fixturePath(path))) describe(name, body);
  else describe.skip(name, () => it(`skipped: no fixtures at ${path}; set DSTACK_FIXTURES`, () => {}));
}
