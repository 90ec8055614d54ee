import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { SETUP_PAGE } from './setup-page.ts';

/** Runs the page's script where an answer comes from a hostile peer, and gives what the page shows then. */
async function shownFor(answer: { ok: boolean; text: string }, click: string): Promise<string> {
  const elements = new Map<string, Record<string, unknown>>();
  const element = (id: string): Record<string, unknown> => {
    const known = elements.get(id) ?? { value: '', textContent: '' };
    elements.set(id, known);
    return known;
  };
  const script = /<script>(.*)<\/script>/s.exec(SETUP_PAGE)?.[1] ?? '';
  runInNewContext(script, {
    document: { getElementById: element },
    fetch: async () => ({ ok: answer.ok, text: async () => answer.text }),
    JSON,
    Error,
  });
  await (element(click)['onclick'] as () => Promise<void>)();
  return String(element('out')['textContent']);
}

test.each([
  ['an error of the other KMS', { ok: false, text: JSON.stringify({ error: 'no\u202e\u001b[2J\u200b' }) }],
  ['an answer that is no JSON', { ok: false, text: '\u202e\u001b[2J\u200b<b>' }],
  ['a value in an answer', { ok: true, text: JSON.stringify({ attestation: '\u202e\u009b\u200b' }) }],
])('%s is shown and does nothing', async (_name, answer) => {
  for (const click of ['info', 'bootstrap', 'onboard', 'finish']) {
    const shown = await shownFor(answer, click);
    expect(shown).toMatch(/^[\x20-\x7e\n]*$/);
  }
  expect(await shownFor(answer, 'info')).toContain('\\u{202e}');
});

test('an answer without end is cut', async () => {
  expect((await shownFor({ ok: false, text: 'x'.repeat(1e6) }, 'finish')).length).toBeLessThanOrEqual(65_536);
});
