/** Whoever reads a contract in an explorer or a wallet finds out what each function, event and error means. */
import type { Abi } from 'viem';
import { formatAbiItem } from 'viem/utils';
import { beforeAll, describe, expect, test } from 'vitest';
import { contractsDirectory } from '../artifact.ts';
import { runCompiler } from '../compile.ts';
import { sourcesOf } from './build-info.ts';

type UserDoc = {
  notice?: string;
  methods: Record<string, { notice?: string }>;
  events: Record<string, { notice?: string }>;
  errors: Record<string, { notice?: string }[]>;
};
type DevDoc = {
  title?: string;
  stateVariables?: Record<string, unknown>;
  methods: Record<string, { params?: Record<string, string>; returns?: Record<string, string> }>;
};
type Documented = { abi: Abi; userdoc: UserDoc; devdoc: DevDoc };

const own = [
  'DstackKms',
  'DstackApp',
  'DstackTimelock',
  'DstackAttestationRegistry',
  'IAppAuth',
  'IPolicyEpoch',
  'IPolicyDelay',
] as const;
/** OpenZeppelin describes its own, for developers and not for users. */
const inherited =
  /^(UPGRADE_INTERFACE_VERSION|multicall|owner|pendingOwner|proxiableUUID|upgradeToAndCall|supportsInterface|AccessControl|Role|DEFAULT_ADMIN_ROLE|getRoleAdmin|(grant|has|renounce|revoke)Role|Initialized|Ownership|Upgraded|Address|ERC1967|Failed|InvalidInit|NotInit|Ownable|UUPS)/;
const documented = new Map<string, Documented>();

beforeAll(() => {
  const { output } = runCompiler(sourcesOf(undefined), contractsDirectory, {
    '*': { '*': ['abi', 'userdoc', 'devdoc'] },
  });
  for (const name of own)
    documented.set(name, output.contracts![`contracts/${name}.sol`]![name] as unknown as Documented);
}, 120_000);

describe.each(own)('%s', (name) => {
  test('says what it is', () => {
    expect(documented.get(name)!.devdoc.title).toMatch(/^[A-Z]/);
  });

  test('says what each function, event and error of its own means, and each parameter of functions', () => {
    const { abi, userdoc, devdoc } = documented.get(name)!;
    // TimelockController and AccessControl are OpenZeppelin's whole interface.
    const base = name === 'DstackTimelock' ? /^(?!runningSince|OperationExpired|grace)/ : inherited;
    const bare = abi.flatMap((item) => {
      if (!('name' in item) || base.test(item.name)) return [];
      const signature = formatAbiItem(item);
      if (item.type === 'event') return userdoc.events[signature]?.notice ? [] : [signature];
      if (item.type === 'error') return userdoc.errors[signature]?.[0]?.notice ? [] : [signature];
      if (!userdoc.methods[signature]?.notice) return [signature];
      // Public variables have no names for their keys.
      const parameters = devdoc.methods[signature]?.params ?? {};
      const named = item.inputs.flatMap((input) => (input.name ? [input.name] : []));
      if (devdoc.stateVariables?.[item.name] !== undefined || isGetter(item.name)) return [];
      return named.filter((one) => !parameters[one]).map((one) => `${signature}: ${one}`);
    });
    expect(bare).toEqual([]);
  });
});

/** Public mappings name their keys in the source and cannot describe them. */
function isGetter(name: string): boolean {
  const variables = [...sourcesOf(undefined).values()].join('\n');
  return new RegExp(`\\bpublic (?:immutable )?${name};`).test(variables);
}

test('the descriptions are looked for where they are', () => {
  expect(Object.keys(documented.get('DstackKms')!.userdoc.methods).length).toBeGreaterThan(50);
});
