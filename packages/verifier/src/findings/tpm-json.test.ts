import { vendorRoots } from '@dstack-cloud/attestation';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { noCollateral } from '../collateral/no-collateral.ts';
import { verify } from '../verify.ts';

type Node = Record<string, unknown>;
const NOW = 1770113530;
const FILES = ['nitro/nitrotpm-attestation.json', 'tpm/gcp-tdx-vtpm-quote.json'];

function leaves(node: unknown, path: readonly string[]): (readonly string[])[] {
  if (typeof node !== 'object' || node === null) return [path];
  return Object.entries(node).flatMap(([name, value]) => leaves(value, [...path, name]));
}

/** A copy with one member replaced, or left out. */
function changed(base: Node, path: readonly string[], change: (value: unknown) => unknown): Node {
  const copy = structuredClone(base);
  let parent = copy;
  for (const name of path.slice(0, -1)) parent = parent[name] as Node;
  const last = path.at(-1)!;
  const value = change(parent[last]);
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return copy;
}

const CHANGES: readonly [string, (value: unknown) => unknown][] = [
  ['first digit', (value) => (typeof value === 'string' ? flip(value, 0) : 'x')],
  ['middle digit', (value) => (typeof value === 'string' ? flip(value, value.length >> 1) : {})],
  ['cut', (value) => (typeof value === 'string' ? value.slice(0, -2) : [])],
  ['a number', () => 5],
  ['null', () => null],
];

function flip(text: string, at: number): string {
  return `${text.slice(0, at)}${text[at] === '1' ? '2' : '1'}${text.slice(at + 1)}`;
}

describeWithFixtures('TPM quotes as JSON, each member changed', `attestation/${FILES[0]}`, () => {
  it.each(FILES)('%s', async (file) => {
    const base = fixtureJson<Node>(`attestation/${file}`);
    const isValid = async (json: Node): Promise<boolean> => {
      const bytes = new TextEncoder().encode(JSON.stringify(json));
      const report = await verify(bytes, { roots: vendorRoots(), collateral: noCollateral(), now: NOW });
      return report.isValid;
    };
    expect(await isValid(base)).toBe(true);
    const accepted: string[] = [];
    for (const path of leaves(base, [])) {
      for (const [name, change] of CHANGES) {
        if (await isValid(changed(base, path, change))) accepted.push(`${path.join('.')}: ${name}`);
      }
    }
    expect(accepted).toEqual([]);
  });
});
