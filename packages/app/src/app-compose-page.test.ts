/** docs/app-compose.md has every member that the schema has, no other, and its defaults. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { APP_COMPOSE_MEMBERS, appComposeSchema } from './app-compose-schema.ts';

const page = readFileSync(join(import.meta.dirname, '../../../docs/app-compose.md'), 'utf8');
const rows = [...page.matchAll(/^\| `([a-z_]+)` \| (.+?) \| (.+?) \| (.+?) \|(.*)\|$/gm)].map(
  ([, member = '', since = '', fallback = '']) => ({ member, since, fallback }),
);

test('each member of the schema has one row', () => {
  expect(rows.map(({ member }) => member).sort()).toEqual([...APP_COMPOSE_MEMBERS].sort());
  for (const { since } of rows) expect(since).toMatch(/^(0\.\d\.\d|newer|ours)$/);
});

test('with the default that a file without it means', () => {
  const parsed = appComposeSchema.parse({
    manifest_version: 2,
    name: 'x',
    runner: 'bash',
  }) as unknown as Record<string, unknown>;
  const meaning: Record<string, unknown> = {
    none: undefined,
    empty: '',
    '`[]`': [],
    '`false`': false,
    '`true`': true,
    '`0`': 0n,
    '`1`': 1,
  };
  // What the schema leaves open, and the guest decides: tests of parseAppCompose and of the guest have these.
  const decidedLater = new Set(['storage_fs', 'key_provider', 'port_policy']);
  for (const { member, fallback } of rows) {
    if (fallback === 'required') {
      const without: Record<string, unknown> = { manifest_version: 2, name: 'x', runner: 'bash' };
      delete without[member];
      expect(appComposeSchema.safeParse(without).success, member).toBe(false);
    } else if (!decidedLater.has(member)) {
      expect(Object.hasOwn(meaning, fallback), `${member}: ${fallback}`).toBe(true);
      expect(parsed[member], member).toEqual(meaning[fallback]);
    }
  }
});
