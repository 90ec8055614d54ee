/**
 * Inside a package the parts of each folder, its files and its folders, are ordered by what they import: none of them
 * imports, over however many others, a part that imports it. Imports of types count, since a reader follows them too.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const roots = [
  ...readdirSync(join(repository, 'packages')).map((name) => `packages/${name}/src`),
  ...['kms', 'cli', 'contracts', 'scripts'].map((name) => `${name}/src`),
];

/** Circles that are there still, as `folder: part, part …`. A circle that is gone leaves this list. */
const remaining: readonly string[] = [
  'cli/src/project: os-image.ts, simulated-image.ts',
  'packages/app/src/compose-file: check-dependencies.ts, compose-file.ts',
  'packages/app/src/compose-file: process-notes.ts, process-plan.ts',
  'packages/app/src: app-compose.ts, unsupported-members.ts',
  'packages/console/src: overview.ts, start-console.ts',
  'packages/eif/src: build, sign',
  'packages/governance/src: safe, state, timelock',
  'packages/verifier/src: findings, policy, report.ts, verdict.ts',
  'packages/watcher/src/model: apply-contract.ts, apply-safe.ts, apply-timelock.ts, governance-model.ts',
  'packages/watcher/src: alerts, model, safe-service, state',
  'scripts/src/demo: contracts.ts, kms-compose.ts, kms.ts',
  'scripts/src/demo: start-chain.ts, start-platform.ts, workspace.ts',
];

/** Test files and the folders that only they use: what they import says nothing about the product. */
const testOnly =
  /\.(test|fixture)\.ts$|\/(test|testing|test-support|threats|conformance|replay)(\/|$)|\/testing\.ts$/;

const importPattern = /(?:\bfrom\s+|\bimport\s*\(?\s*)'(\.\.?\/[^']+)'/g;

function sources(root: string): string[] {
  return readdirSync(join(repository, root), { recursive: true, encoding: 'utf8' })
    .map((name) => join(root, name))
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !testOnly.test(file));
}

function importedFiles(file: string): string[] {
  const text = readFileSync(join(repository, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  return [...text.matchAll(importPattern)].map((match) =>
    relative(repository, resolve(repository, dirname(file), match[1] ?? '')),
  );
}

type Graph = Map<string, Set<string>>;

/** Imports between the parts of each folder, by folder. */
function partsOf(root: string): Map<string, Graph> {
  const folders = new Map<string, Graph>();
  const files = sources(root);
  const known = new Set(files);
  for (const file of files) {
    for (const target of importedFiles(file)) {
      if (!known.has(target)) continue;
      const [from, to] = [file.split('/'), target.split('/')];
      const depth = from.findIndex((part, index) => part !== to[index]);
      // A file that imports itself.
      if (depth < 0) continue;
      const folder = from.slice(0, depth).join('/');
      const graph: Graph = folders.get(folder) ?? new Map();
      folders.set(folder, graph);
      const targets = graph.get(from[depth]!) ?? new Set();
      graph.set(from[depth]!, targets.add(to[depth]!));
    }
  }
  return folders;
}

/** All parts that can be reached from one by imports. */
function reached(graph: Graph, start: string): Set<string> {
  const found = new Set<string>();
  const waiting = [start];
  for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
    for (const next of graph.get(part) ?? []) {
      if (found.has(next)) continue;
      found.add(next);
      waiting.push(next);
    }
  }
  return found;
}

/** The circles of one folder, each as its parts in order. */
function circlesOf(graph: Graph): string[] {
  const reach = new Map([...graph.keys()].map((part) => [part, reached(graph, part)] as const));
  const circles = [...reach]
    .filter(([part, found]) => found.has(part))
    .map(([part, found]) =>
      [...found]
        .filter((other) => reach.get(other)?.has(part))
        .sort()
        .join(', '),
    );
  return [...new Set(circles)];
}

describe('circles', () => {
  test('are seen, over several parts and by types alone', () => {
    const graph: Graph = new Map([
      ['a', new Set(['b'])],
      ['b', new Set(['c', 'd'])],
      ['c', new Set(['a'])],
      ['d', new Set()],
    ]);
    expect(circlesOf(graph)).toEqual(['a, b, c']);
    const imported = importedFiles('kms/src/kms.ts');
    expect(imported).toContain('kms/src/limits/rate-limits.ts');
  });

  test('the parts of a folder do not import each other in a circle', () => {
    const found = roots.flatMap((root) =>
      [...partsOf(root)].flatMap(([folder, graph]) =>
        circlesOf(graph).map((circle) => `${folder}: ${circle}`),
      ),
    );
    expect(found.sort()).toEqual([...remaining].sort());
  });
});
