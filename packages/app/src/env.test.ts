import { execFileSync } from 'node:child_process';
import { utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ENV_LIMITS, escapeEnvValue, formatEnvFile, parseEnvDocument, validateEnv } from './index.ts';

describeWithFixtures('env_file_escape', 'simulator/expected.json', () => {
  const { env_file_escape } = fixtureJson<{
    env_file_escape: { value: string; proposed_fixed_output: string }[];
  }>('simulator/expected.json');
  it.each(env_file_escape)('$value', ({ value, proposed_fixed_output }) => {
    expect(escapeEnvValue(value)).toBe(proposed_fixed_output);
  });
});

describe('formatEnvFile', () => {
  it('is read back unchanged by a POSIX shell', () => {
    const value = fc.string({
      unit: fc.constantFrom(...'aZ0 \t\n"\'\\$`|&;<>()*?[]{}#~=%!é😀'),
      maxLength: 12,
    });
    const samples = fc.sample(value, 60);
    const vars = samples.map((text, index) => ({ key: `V${index}`, value: text }));
    const script = `${formatEnvFile(vars)}\nfor i in $(seq 0 ${vars.length - 1}); do eval "printf '%s\\0' \\"\\$V$i\\""; done`;
    const output = execFileSync('sh', ['-c', script], { encoding: 'utf8', timeout: 20_000 });
    expect(output.split('\0').slice(0, -1)).toEqual(samples);
  });
});

describe('validateEnv', () => {
  it('drops names that are not allowed before any other check, sorts, last duplicate wins', () => {
    const vars = [
      { key: 'bad name', value: 'x' },
      { key: 'B', value: '1' },
      { key: 'A', value: '2' },
      { key: 'B', value: '3' },
    ];
    expect(validateEnv(vars, ['A', 'B', 'C'])).toEqual({
      vars: [
        { key: 'A', value: '2' },
        { key: 'B', value: '3' },
      ],
      dropped: ['bad name'],
    });
  });
  const long = 'a'.repeat(ENV_LIMITS.keyBytes + 1);
  it.each([
    ['a bad name', [{ key: '1A', value: '' }]],
    ['an empty name', [{ key: '', value: '' }]],
    ['a long name', [{ key: long, value: '' }]],
    ['a long value', [{ key: 'A', value: 'é'.repeat(ENV_LIMITS.valueBytes / 2 + 1) }]],
    ['a NUL', [{ key: 'A', value: 'x\0y' }]],
    ['too many', Array.from({ length: ENV_LIMITS.items + 1 }, () => ({ key: 'zzz', value: '' }))],
    [
      'too much in all',
      Array.from({ length: 9 }, () => ({ key: 'A', value: 'x'.repeat(ENV_LIMITS.valueBytes) })),
    ],
  ])('refuses %s', (_, vars) => {
    const allowed = vars.map(({ key }) => key);
    expect(() => validateEnv(vars, allowed)).toThrow(expect.objectContaining({ code: 'env-invalid' }));
  });
});

describe('parseEnvDocument', () => {
  it('reads the plaintext and refuses other shapes', () => {
    expect(parseEnvDocument(utf8('{"env": [{"key": "A", "value": "1"}]}'))).toEqual([
      { key: 'A', value: '1' },
    ]);
    for (const text of ['[]', '{}', '{"env":[{"key":"A"}]}', '{"env":[]}x']) {
      expect(() => parseEnvDocument(utf8(text))).toThrow(expect.objectContaining({ code: 'env-invalid' }));
    }
  });
});
