import { AttestationError } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { openBundle, withBundle } from '../bundle.ts';
import { isUsageError, VerifierError } from '../errors.ts';
import { MAX_EVIDENCE_BYTES } from '../evidence/recognise.ts';
import { type Report, reportToJson } from '../report.ts';
import { unreadableReport, type VerifyEvidenceOptions, verify } from '../verify.ts';
import { EVIDENCE_OPTIONS, parseCommandLine } from './arguments.ts';
import { currentTime, type EvidenceArguments, evidenceOptions } from './evidence-options.ts';
import { EXIT, jsonText, type Output } from './output.ts';
import { readInput } from './read-input.ts';
import { reportText } from './report-text.ts';

/** `dstack-verifier verify FILE…`: one report each; the exit code is the worst of them. */
export async function verifyCommand(argv: readonly string[], output: Output): Promise<number> {
  const { values, positionals } = parseCommandLine(argv, { ...EVIDENCE_OPTIONS, json: { type: 'boolean' } });
  if (positionals.length === 0) throw new VerifierError('usage', 'verify needs a FILE; - is standard input');
  const options = await evidenceOptions(values).catch((error: unknown) => {
    if (isReport(error)) return error;
    throw error;
  });
  const codes: number[] = [];
  for (const path of positionals) {
    const report =
      options instanceof Error
        ? unreadableReport(options, currentTime(), 'collateral.form')
        : await reportOf(path, values, options);
    codes.push(exitCode(report));
    output.out(
      values.json
        ? jsonText(reportToJson(report, toHex))
        : reportText(path, report, process.stdout.isTTY === true),
    );
  }
  return codes.includes(EXIT.bad)
    ? EXIT.bad
    : codes.includes(EXIT.cannotJudge)
      ? EXIT.cannotJudge
      : EXIT.good;
}

/** 0 when evidence and policy are good, 1 when either is bad, 2 when collateral is missing and nothing is wrong. */
export function exitCode(report: Report): number {
  if (report.isValid) return report.policy.ok ? EXIT.good : EXIT.bad;
  return report.cannotJudge ? EXIT.cannotJudge : EXIT.bad;
}

async function reportOf(
  path: string,
  args: EvidenceArguments,
  options: VerifyEvidenceOptions,
): Promise<Report> {
  try {
    const bytes = await readInput(path, MAX_EVIDENCE_BYTES);
    const bundle = openBundle(bytes);
    if (bundle === undefined) return await verify(bytes, options);
    const given = { time: args.at !== undefined, collateral: args.collateral !== undefined };
    return await verify(bundle.evidence, withBundle(bundle, options, given));
  } catch (error) {
    if (!isReport(error)) throw error;
    return unreadableReport(error, options.now);
  }
}

/** Whether an error is told as a report: all but a question that is not understood. */
function isReport(error: unknown): error is VerifierError | AttestationError {
  return error instanceof AttestationError || (error instanceof VerifierError && !isUsageError(error));
}
