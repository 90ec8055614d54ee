import { describe, expect, it } from 'vitest';
import { FilteredLines, withholdSecrets } from './withhold-secrets.ts';

const SECRETS = { PASSWORD: 'correct horse\nbattery "staple"', DEBUG: 'on', TAG: '7', TOKEN: 'aé+/?ü=&x y' };
const filter = withholdSecrets(SECRETS, 'services: {web: {image: app:$TAG}}');
const WITHHELD = '(a line is withheld: it may contain a secret of the application)';
const escaped = (text: string) => JSON.stringify(text);

describe('withholdSecrets', () => {
  it.each([
    'pull access denied for team/app, repository does not exist',
    'Error response from daemon: driver failed: port is already allocated',
    `manifest unknown: app@sha256:${'ab'.repeat(32).replace(/7/g, 'a')}`,
    'dependency failed to start: container web is unhealthy on purpose',
  ])('shows: %s', (line) => expect(filter(line)).toBe(line));

  it.each([
    ['the first line of a secret', 'cannot use correct horse here'],
    ['the second line', 'x battery "staple"'],
    ['a secret with escapes', `bad ${escaped(SECRETS.PASSWORD)}`],
    ['letters in capitals', 'CORRECT HORSE'],
    ['a part of it', 'invalid: "battery'],
    ['its hex', Buffer.from(SECRETS.PASSWORD).toString('hex')],
    ['its base64', Buffer.from(SECRETS.PASSWORD).toString('base64').slice(0, 12)],
    ['its URL form', `https://x/?q=${encodeURIComponent(SECRETS.TOKEN)}`],
    ['a short one that compose interpolates', 'no such image: app:7'],
    ['a key', `key ${'0f'.repeat(16)}`],
    ['a PEM header', '-----BEGIN PRIVATE KEY-----'],
    ['a line too long to look at', 'x '.repeat(3000)],
  ])('withholds %s', (_, line) => expect(filter(line)).toBe(WITHHELD));

  it('looks for short values where compose reads further files', () => {
    expect(withholdSecrets({ DEBUG: 'on' }, 'include: [more.yaml]')('it is on')).toBe(WITHHELD);
  });
});

describe('FilteredLines', () => {
  it('joins what arrives in pieces, and keeps no endless line', () => {
    const seen: string[] = [];
    const lines = new FilteredLines(filter, (line) => seen.push(line));
    for (const part of ['one\ncorr', 'ect horse\r\n', 'z'.repeat(1e5), 'z'.repeat(1e5), '\nlast'])
      lines.write(Buffer.from(part));
    lines.end();
    expect(seen).toEqual(['one', WITHHELD, WITHHELD, 'last']);
  });
});
