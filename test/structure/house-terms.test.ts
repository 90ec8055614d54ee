/** Names that a reader of this field would have to learn are not used: docs/glossary.md has the terms instead. */
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

const repository = resolve(import.meta.dirname, '../..');

const refused: Readonly<Record<string, string>> = {
  [['Turn', 'stile'].join('')]: 'ConcurrencyLimiter',
  [['image', 'CheckIsDear'].join('')]: 'needsImageDownload',
  [['Whole', 'Service'].join('')]: 'ClusterService',
  [['Kept', 'Verified'].join('')]: 'CompactVerification',
  [['Key', 'Place'].join('')]: 'KeyAssignment',
  [['Present', 'Keys'].join('')]: 'CurrentKeys',
  [['taken', 'Batch'].join('')]: 'consumedBatch',
  [['Permission', 'Book'].join('')]: 'DecisionCache',
  [['Chain', 'View'].join('')]: 'ChainSnapshot',
  [['settled', 'Block'].join('')]: 'finalizedBlock',
  [['Evidence', 'Judge'].join('')]: 'EvidenceVerifier',
  [['Verdict', 'Cache'].join('')]: 'VerifiedCertificates',
  [['judge', 'Tcb'].join('')]: 'appraiseTcb',
  [['Packed', 'Read'].join('')]: 'ContractRead',
};

test.each(Object.entries(refused))('%s is called %s', (term) => {
  let found = '';
  try {
    found = execFileSync('git', ['grep', '-li', '-e', term, '--', '*.ts', '*.md'], {
      cwd: repository,
      encoding: 'utf8',
    });
  } catch (error) {
    // Status 1: nothing was found.
    if ((error as { status?: unknown }).status !== 1) throw error;
  }
  expect(found).toBe('');
});
