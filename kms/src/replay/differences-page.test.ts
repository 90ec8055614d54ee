/** That the page for people says what the tests assert. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { differencesPage } from '../test/differences-page.ts';

test('the page lists every wanted difference with its reason', async () => {
  const page = join(import.meta.dirname, '../../../docs/reference/kms-differences.md');
  await expect(differencesPage()).toMatchFileSnapshot(page);
});
