import { AttestationError } from '@dstack-cloud/attestation';
import { printable, printableMessage } from '@dstack-cloud/encoding';
import { VerifierError } from '../errors.ts';
import { type EventLogReport, eventLogReport } from '../eventlog/event-log-json.ts';
import { parseCommandLine } from './arguments.ts';
import { EXIT, jsonText, type Output } from './output.ts';
import { readInput } from './read-input.ts';

const MAX_LOG_BYTES = 16 * 1024 * 1024;

/**
 * `dstack-verifier eventlog FILE [--json]`: events and replayed registers of a CCEL or TPM log. Exits with 1 when a
 * register cannot be replayed.
 */
export async function eventlogCommand(argv: readonly string[], output: Output): Promise<number> {
  const { values, positionals } = parseCommandLine(argv, { json: { type: 'boolean' } });
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new VerifierError('usage', 'eventlog needs one FILE');
  try {
    const report = eventLogReport(await readInput(path, MAX_LOG_BYTES));
    output.out(values.json ? jsonText(report) : reportText(report));
    // A register whose value is not known is no answer to what the machine measured.
    return report.not_replayed.length > 0 ? EXIT.bad : EXIT.good;
  } catch (error) {
    if (!(error instanceof AttestationError) && !(error instanceof VerifierError)) throw error;
    output.err(`${printableMessage(`${path}: ${error.message} [${error.code}]`)}\n`);
    return EXIT.bad;
  }
}

function reportText(report: EventLogReport): string {
  const lines = [`${report.format} log, ${report.events.length} events`];
  for (const [name, banks] of Object.entries(report.registers)) {
    for (const [bank, value] of Object.entries(banks)) lines.push(`  ${name.padEnd(6)} ${bank} ${value}`);
  }
  lines.push(
    ...report.not_replayed.map(
      (name) => `  ${name.padEnd(6)} not known: its events have no digest that is replayed`,
    ),
  );
  lines.push(...report.anomalies.map((anomaly) => `  irregular: ${anomaly}`));
  return `${lines.map((line) => printable(line)).join('\n')}\n`;
}
