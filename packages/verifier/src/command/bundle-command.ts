import { writeFileAtomic } from '@dstack-cloud/app';
import { printable, utf8 } from '@dstack-cloud/encoding';
import { bundleText } from '../bundle.ts';
import { recordingSource } from '../collateral/recorder.ts';
import { VerifierError } from '../errors.ts';
import { MAX_EVIDENCE_BYTES } from '../evidence/recognise.ts';
import { verify } from '../verify.ts';
import { EVIDENCE_OPTIONS, parseCommandLine } from './arguments.ts';
import { evidenceOptions } from './evidence-options.ts';
import { EXIT, type Output } from './output.ts';
import { readInput } from './read-input.ts';
import { exitCode } from './verify-command.ts';

/**
 * `dstack-verifier bundle FILE [--out FILE] …`: verifies evidence, and writes it with all collateral that the
 * verdict needed and its time, so that `verify` gives the same report later without any network.
 */
export async function bundleCommand(argv: readonly string[], output: Output): Promise<number> {
  const { values, positionals } = parseCommandLine(argv, {
    ...EVIDENCE_OPTIONS,
    out: { type: 'string', short: 'o' },
  });
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new VerifierError('usage', 'bundle needs one FILE');
  const options = await evidenceOptions(values);
  const { source, recorded } = recordingSource(options.collateral);
  const evidence = await readInput(path, MAX_EVIDENCE_BYTES);
  const report = await verify(evidence, { ...options, collateral: source });
  const code = exitCode(report);
  if (code === EXIT.cannotJudge) {
    output.err(`${printable(`${path}: ${report.reason}; a bundle without its collateral is of no use`)}\n`);
    return code;
  }
  const text = bundleText(evidence, options.now, options.chain ?? [], recorded());
  if (values.out === undefined) output.out(text);
  else await writeFileAtomic(values.out, utf8(text), { mode: 0o644 });
  if (!report.isValid) {
    output.err(`${printable(`${path}: ${report.reason} [${report.code}]; the bundle shows it`)}\n`);
  }
  return code;
}
