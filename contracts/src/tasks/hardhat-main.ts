import { printable } from '@dstack-cloud/encoding';
import { hardhat } from './hardhat.ts';

/** Errors may have texts of contracts that anybody may have written. */
const printableText = (text: string): string => printable(text, { max: 1024 * 1024, keep: '\n\t' });

process.exitCode = await hardhat(
  process.argv.slice(2),
  { env: process.env },
  {
    out: (text) => void process.stdout.write(printableText(text)),
    error: (text) => void process.stderr.write(printableText(text)),
  },
);
