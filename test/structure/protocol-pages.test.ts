/**
 * docs/protocol is what the code does: its headings are numbered in order, references to them resolve, its tables are
 * those of the code and the `.proto` files. Its vectors are computed again in protocol-vectors.test.ts.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { APP_COMPOSE_MEMBERS, ENV_LIMITS, HOST_SHARED_LIMITS } from '@dstack-cloud/app';
import { ATTESTATION_MODES } from '@dstack-cloud/attestation';
import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import {
  Admin,
  DstackGuest,
  guestApi,
  HostApi,
  KMS,
  Onboard,
  type openApiDocument,
  Tappd,
  Worker,
} from '@dstack-cloud/prpc';
import { OID } from '@dstack-cloud/ra-tls';
import { toFunctionSelector } from 'viem';
import { describe, expect, test } from 'vitest';
import { importSlots } from './import-slots.ts';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const directory = join(repository, 'docs/protocol');

/** Numbers of the headings of each page, in their order. */
const headings = new Map(
  readdirSync(directory).map((name) => {
    return [
      name,
      [...pageText(name).matchAll(/^#{2,3} (\d+(?:\.\d+)?)\.? \S/gm)].map((match) => match[1]!),
    ] as const;
  }),
);

/** Text files that are part of the repository. */
function trackedFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
  });
  return listed
    .split('\n')
    .filter((path) => /\.(ts|mjs|js|c|sol|proto|md|json|toml|yaml|yml|sh)$/.test(path));
}

/** A page and a section, or a page, `#` and a section; more sections after "and", "to" or a comma. */
const REFERENCE =
  /docs\/protocol\/([\w-]+\.md)(?:#|,? sections? )(\d+(?:\.\d+)?)((?:(?:,| and| to) \d+(?:\.\d+)?)*)/g;
/** Between the pages: `[keys.md](keys.md) section 2.1`. */
const LINK =
  /\[[^\]]*\]\((?:\.\.\/)*(?:docs\/)?(?:protocol\/)?([\w-]+\.md)\),? sections? (\d+(?:\.\d+)?)((?:(?:,| and| to) \d+(?:\.\d+)?)*)/g;

/** Sections that follow the name of a public document. */
const OF_A_STANDARD =
  /(?:RFC \d+|EIP-\d+|Profile|Guide|"[^"]*"|paper),? sections? \d+(?:\.\d+)*(?:(?:,| and| to) \d+(?:\.\d+)*)*/g;

/** A page without its code blocks. */
function pageText(name: string): string {
  return readFileSync(join(directory, name), 'utf8').replace(/^```[\s\S]*?^```/gm, '');
}

interface Reference {
  readonly from: string;
  readonly page: string;
  readonly section: string;
}

function referencesIn(from: string, text: string, pattern: RegExp): Reference[] {
  // A comment may break a reference over two lines.
  const joined = text.replace(/\s*\n\s*(?:\*|\/\/\/?|#)? ?/g, ' ');
  return [...joined.matchAll(pattern)].flatMap(([, page, section, more]) =>
    [section!, ...(more!.match(/\d+(?:\.\d+)?/g) ?? [])].map((one) => ({ from, page: page!, section: one })),
  );
}

function broken(references: readonly Reference[]): string[] {
  return references
    .filter(({ page, section }) => !headings.get(page)?.includes(section))
    .map(({ from, page, section }) => `${from}: ${page} section ${section}`);
}

describe('docs/protocol', () => {
  test.each([...headings])('%s numbers its headings in order', (_page, numbers) => {
    let [chapter, section] = [0, 0];
    for (const number of numbers) {
      if (number.includes('.')) section += 1;
      else [chapter, section] = [chapter + 1, 0];
      expect(number).toBe(section === 0 ? `${chapter}` : `${chapter}.${section}`);
    }
    expect(numbers.length).toBeGreaterThan(2);
  });

  test('the index names every page once', () => {
    const index = readFileSync(join(directory, 'README.md'), 'utf8');
    const named = [...index.matchAll(/^\| \[([\w-]+\.md)\]\(\1\) \|/gm)].map((match) => match[1]!);
    expect(named.sort()).toEqual([...headings.keys()].filter((name) => name !== 'README.md').sort());
  });

  test('every reference from the sources and other documents resolves', () => {
    const references = trackedFiles().flatMap((path) => {
      const text = readFileSync(join(repository, path), 'utf8');
      return text.includes('docs/protocol/') ? referencesIn(path, text, REFERENCE) : [];
    });
    expect(broken(references)).toEqual([]);
  });

  test('every reference between the pages resolves', () => {
    const references = [...headings.keys()].flatMap((name) => {
      const path = join(directory, name);
      return referencesIn(relative(repository, path), readFileSync(path, 'utf8'), LINK).filter(({ page }) =>
        headings.has(page),
      );
    });
    // kms.md is also the name of a manual, which has no numbers.
    expect(broken(references)).toEqual([]);
    expect(references.length).toBeGreaterThan(20);
  });

  test('sections of the same page exist', () => {
    const missing = [...headings].flatMap(([name, numbers]) => {
      const text = pageText(name)
        .replace(/\s*\n\s*/g, ' ')
        .replace(LINK, '')
        .replace(OF_A_STANDARD, '');
      return [...text.matchAll(/\b[Ss]ections? (\d+(?:\.\d+)?)((?:(?:,| and| to) \d+(?:\.\d+)?)*)/g)]
        .flatMap(([, first, more]) => [first!, ...(more!.match(/\d+(?:\.\d+)?/g) ?? [])])
        .filter((section) => !numbers.includes(section))
        .map((section) => `${name}: section ${section}`);
    });
    expect(missing).toEqual([]);
  });
});

/** `| `Message` | 1 | `field` | type |` on any page. */
const FIELD = /^\| `(\w+)` \| (\d+) \| `(\w+)` \| ([\w ]+) \|/gm;
/** `| `Method` | Request | Answer |`, on one page behind the service's name. */
const METHOD = /^\|(?: (\w+) \|)? `([A-Z]\w+)` \| (\w+) \| (\w+) \|/gm;

type DescService = Parameters<typeof openApiDocument>[0];
type DescMessage = DescService['methods'][number]['input'];
type DescField = DescMessage['fields'][number];

/** By the numbers of `FieldDescriptorProto.Type`. */
const SCALARS: Readonly<Record<number, string>> = {
  3: 'int64',
  4: 'uint64',
  8: 'bool',
  9: 'string',
  12: 'bytes',
  13: 'uint32',
};

function typeOf(field: DescField): string {
  const base = field.message?.name ?? SCALARS[field.scalar ?? 0] ?? 'unknown';
  if (field.fieldKind === 'list') return `repeated ${base}`;
  return field.proto.proto3Optional ? `optional ${base}` : base;
}

/** Messages that the methods of a service take and give, and those inside of them, by package and name. */
function messagesOf(services: readonly DescService[]): DescMessage[] {
  const found = new Map<string, DescMessage>();
  const visit = (message: DescMessage): void => {
    if (found.has(message.typeName) || message.typeName.startsWith('google.')) return;
    found.set(message.typeName, message);
    for (const { message: inner } of message.fields) if (inner !== undefined) visit(inner);
  };
  for (const { methods } of services) {
    for (const { input, output } of methods) [input, output].forEach(visit);
  }
  return [...found.values()];
}

describe('messages and methods', () => {
  const pages: readonly (readonly [page: string, services: readonly DescService[]])[] = [
    ['kms.md', [KMS, Onboard, Admin]],
    ['guest-agent.md', [DstackGuest, Tappd, Worker]],
    ['host-shared.md', [HostApi, guestApi.GuestApi]],
  ];

  test.each(pages)('%s has the fields of the .proto files, and no other', (page, services) => {
    const extra = page === 'host-shared.md' ? [guestApi.ProxiedGuestApi] : [];
    const wanted = messagesOf([...services, ...extra]).flatMap((message) =>
      message.fields.map((field) => `${message.name} ${field.number} ${field.name} ${typeOf(field)}`),
    );
    const found = [...pageText(page).matchAll(FIELD)].map(
      ([, message, number, field, type]) => `${message} ${number} ${field} ${type}`,
    );
    expect(found.sort()).toEqual(wanted.sort());
  });

  test.each(pages)('%s has the methods of the .proto files, and no other', (page, services) => {
    const wanted = services.flatMap(({ name, methods }) =>
      methods.map((method) => {
        const prefix = page === 'guest-agent.md' ? `${name} ` : '';
        return `${prefix}${method.name} ${method.input.name} ${method.output.name}`;
      }),
    );
    const found = [...pageText(page).matchAll(METHOD)].map(
      ([, service, method, request, answer]) =>
        `${service === undefined ? '' : `${service} `}${method} ${request} ${answer}`,
    );
    expect(found.sort()).toEqual(wanted.sort());
  });
});

describe('tables of the pages', () => {
  const cells = (page: string, pattern: RegExp): Record<string, string> =>
    Object.fromEntries([...pageText(page).matchAll(pattern)].map(([, name, value]) => [name!, value!]));

  test('selectors are those of the signatures', () => {
    const rows = cells('contracts.md', /^\| `([0-9a-f]{8})` \| `(\w+\([^`]*\))` \|/gm);
    expect(Object.keys(rows).length).toBeGreaterThan(25);
    const known = new Set(
      [...dstackKmsAbi, ...dstackAppAbi].flatMap((item) =>
        item.type === 'function' ? [toFunctionSelector(item)] : [],
      ),
    );
    for (const [selector, signature] of Object.entries(rows)) {
      expect(toFunctionSelector(`function ${signature}`), signature).toBe(`0x${selector}`);
      expect(known.has(`0x${selector}`), signature).toBe(true);
    }
  });

  test('slots are those of the code', async () => {
    const text = pageText('contracts.md');
    const { kmsSlot, appSlot, kmsExtensionSlot, appExtensionSlot } = await importSlots();
    const named = Object.entries({ ...kmsSlot, ...appSlot }).filter(([name]) => name !== 'flags');
    expect(named.length).toBeGreaterThan(8);
    for (const [name, slot] of named) expect(text).toMatch(new RegExp(`^\\| ${slot} \\| .*${name}`, 'm'));
    expect(text).toContain(kmsExtensionSlot['state']!.toString(16));
    expect(text).toContain((appExtensionSlot['composeNotAfter']! - 2n).toString(16));
  });

  test('host-shared files have the limits of the code', () => {
    const rows = cells('host-shared.md', /^\| `(\.?[\w.-]+)` \| (\d+) \| (?:yes|no) \|/gm);
    const limits = Object.entries(HOST_SHARED_LIMITS).map(([name, size]) => [name, String(size)]);
    expect(rows).toEqual(Object.fromEntries(limits));
  });

  test('an environment has the limits of the code', () => {
    const rows = cells(
      'host-shared.md',
      /^\| (variables|name, bytes|value, bytes|all names and values, bytes) \| (\d+) \|/gm,
    );
    expect(Object.values(rows).map(Number)).toEqual([
      ENV_LIMITS.items,
      ENV_LIMITS.keyBytes,
      ENV_LIMITS.valueBytes,
      ENV_LIMITS.totalBytes,
    ]);
  });

  test('app-compose.json has the members of the schema', () => {
    const [section] = pageText('app-compose.md').split(/^### 1\.1/m);
    const named = [...section!.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1]!);
    expect(named).toEqual([...APP_COMPOSE_MEMBERS]);
  });

  test('extensions have the identifiers of the code', () => {
    const named = [...pageText('ra-tls.md').matchAll(/^\| \.(\d) \|/gm)].map((match) => match[1]!);
    expect(named.map((digit) => `1.3.6.1.4.1.62397.1.${digit}`).sort()).toEqual(Object.values(OID).sort());
  });

  test('codes of RPC errors are those of the code', () => {
    const source = readFileSync(join(repository, 'packages/prpc/src/errors.ts'), 'utf8');
    const union = /RpcErrorCode =([^;]+);/.exec(source)![1]!;
    const codes = [...union.matchAll(/'([A-Z_]+)'/g)].map((match) => match[1]!);
    const named = [...pageText('kms.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1]!);
    expect(named.sort()).toEqual(codes.sort());
  });

  test('modes are those of the code, in their order', () => {
    const named = [...pageText('evidence.md').matchAll(/^\| \d \| `(dstack-[\w-]+)` \|/gm)].map(
      (match) => match[1]!,
    );
    expect(named).toEqual([...ATTESTATION_MODES]);
  });
});
