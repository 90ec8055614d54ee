import { readFileSync } from 'node:fs';
import { knownKeys } from '@dstack-cloud/app';
import { describe, expect, it } from 'vitest';
import { parseConfig } from './load-config.ts';
import { OLDER_NAMES, ORIGINAL_KEYS } from './original-keys.ts';
import { configSchema } from './schema.ts';

/** TOML of one key. */
function line(key: string, value: unknown): string {
  const path = key.split('.');
  const name = path.pop();
  return `${path.length === 0 ? '' : `[${path.join('.')}]\n`}${name} = ${JSON.stringify(value)}\n`;
}

function load(text: string): { warnings: string[]; config: ReturnType<typeof parseConfig> } {
  const warnings: string[] = [];
  return { config: parseConfig(text, 'vmm.toml', (warning) => warnings.push(warning)), warnings };
}

const ignored = ORIGINAL_KEYS.filter(({ taken }) => taken === 'any').map(({ key }) => key);
const refused = ORIGINAL_KEYS.filter(({ taken }) => taken !== 'any');
const standard = load('').config;

describe('a key of the original', () => {
  it.each(ignored)('%s is ignored, and named in a warning', (key) => {
    const { warnings, config } = load(line(key, 'x'));
    expect(warnings).toEqual([expect.stringContaining(`vmm.toml: ${key} has no effect: `)]);
    expect(config).toEqual(standard);
  });

  it.each(refused)('$key is refused but for what is the case anyway', ({ key, taken, why }) => {
    expect(() => load(line(key, 'another value'))).toThrow(
      expect.objectContaining({ code: 'bad_config', message: expect.stringContaining(`  ${key}: `) }),
    );
    expect(() => load(line(key, 'another value'))).toThrow(why);
    for (const value of taken as readonly unknown[])
      expect(load(line(key, value))).toEqual({ warnings: [], config: standard });
  });

  it.each(OLDER_NAMES)('%s is %s of before, and is not given twice', (from, to) => {
    const value = to.endsWith('urls') ? ['https://gateway.example'] : '/images';
    expect(load(line(from, value))).toEqual(load(line(to, value)));
    const both =
      from.split('.')[0] === to.split('.')[0]
        ? `${line(from, value)}${to.split('.')[1]} = []\n`
        : `${line(to, value)}${line(from, value)}`;
    expect(() => load(both)).toThrow(`${from}: ${to} is given too`);
  });

  it('is in the documentation with what becomes of it', () => {
    const page = readFileSync(new URL('../../../../../docs/vmm.md', import.meta.url), 'utf8');
    const section = page.split('## A configuration of the original')[1]?.split('\n## ')[0] ?? '';
    const rows = [...section.matchAll(/^\| `([\w.]+)` \| (.*) \| (.*) ?\|$/gm)].map(([, ...row]) =>
      row.map((cell) => cell!.trim()),
    );
    const expected = ORIGINAL_KEYS.map(({ key, taken, why }) => {
      const values = taken === 'any' ? [] : taken.map((value) => `\`${JSON.stringify(value)}\``);
      if (taken === 'any') return [key, 'ignored, with a warning', why];
      return [key, values.length === 0 ? 'refused' : `refused, but for ${values.join(' or ')}`, why];
    });
    const older = OLDER_NAMES.map(([from, to]) => [from, `read as \`${to}\``, '']);
    expect(rows).toEqual([...older, ...expected]);
  });

  it('is none of the schema’s', () => {
    for (const { key } of ORIGINAL_KEYS) {
      const path = key.split('.');
      const name = path.pop()!;
      expect(knownKeys(configSchema, path)).not.toContain(name);
    }
  });
});

it('the original’s own file loads, and says what of it has no effect', () => {
  const text = `workers = 8\n[cvm]\nqmp_socket = false\nuser = ""\nuse_mrconfigid = true\nqemu_pci_hole64_size = 0
qemu_hotplug_off = false\nhost_share_mode = "9p"\n[cvm.product]\nsys_vendor = "dstack"\nproduct_name = "dstack"
[cvm.networking]\nmode = "user"\npasst_exec = ""\ndns = ["1.1.1.1"]\n`;
  const { warnings } = load(text);
  expect(warnings.map((warning) => /vmm\.toml: (\S+)/.exec(warning)?.[1])).toEqual([
    ...['workers', 'cvm.qmp_socket', 'cvm.host_share_mode', 'cvm.product'],
    ...['cvm.networking.passt_exec', 'cvm.networking.dns'],
  ]);
});
