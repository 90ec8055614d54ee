/** The rules of `.solhint.json` hold in every contract, and a contract that breaks one is found out. */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { contractsDirectory } from '../artifact.ts';

type Finding = { ruleId: string; line: number; message: string };
type Solhint = { processStr(source: string, config: unknown): { reports: Finding[] } };

const { processStr } = createRequire(import.meta.url)('solhint') as Solhint;
const config = JSON.parse(readFileSync(join(contractsDirectory, '.solhint.json'), 'utf8')) as unknown;
const directory = join(contractsDirectory, 'contracts');

function findings(source: string): string[] {
  return processStr(source, config).reports.map(
    ({ ruleId, line, message }) => `${line} ${ruleId}: ${message}`,
  );
}

test.each(readdirSync(directory))('%s', (name) => {
  expect(findings(readFileSync(join(directory, name), 'utf8'))).toEqual([]);
});

test.each([
  ['avoid-tx-origin', 'require(tx.origin == msg.sender);'],
  ['avoid-low-level-calls', 'msg.sender.delegatecall("");'],
  ['no-unused-vars', 'uint256 unused = 1;'],
] as const)('%s is found', (rule, statement) => {
  const source = `// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;
contract Bad { function bad() external { ${statement} } }`;
  expect(findings(source).join('\n')).toContain(` ${rule}: `);
});
