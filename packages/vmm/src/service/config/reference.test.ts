/** docs/reference/vmm-config.md has every key of the schema with its default, and nothing else. */
import { readFileSync } from 'node:fs';
import { knownKeys } from '@dstack-cloud/app';
import { testConfigReference } from '@dstack-cloud/test/config-reference';
import { checkTable, configSchema } from './schema.ts';

const page = readFileSync(new URL('../../../../../docs/reference/vmm-config.md', import.meta.url), 'utf8');

testConfigReference(page, {
  knownKeys: (path) => knownKeys(configSchema, path),
  check: checkTable,
  atLeast: 55,
});
