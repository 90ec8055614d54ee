import { describeEif, PCR_NAMES, type PcrName, parseMeasurements, verifyEif } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { type Options, pathOption, readGiven, timeOption } from '../eif/options.ts';
import { refusing, withEif } from '../eif/with-eif.ts';
import { CliError, EXIT } from '../errors.ts';

/** `eif verify`: refuses a damaged image, a wrong signature, other registers than expected. */
export async function run(context: Context, args: readonly string[], options: Options): Promise<undefined> {
  const certificate = pathOption(context, options, 'signingCertificate');
  const file = pathOption(context, options, 'measurements');
  const now = timeOption(options, 'at', context.now());
  const expected = {
    ...(file === undefined ? {} : parseMeasurements(Buffer.from(await readGiven(file)).toString('utf8'))),
    ...registersOf(options['expect'] as string[] | undefined),
  };
  const description = await refusing(async () =>
    withEif(context, args[0]!, async (eif) => {
      verifyEif(eif, {
        now,
        requireSignature: options['requireSignature'] === true,
        expected,
        ...(certificate === undefined ? {} : { certificate: await readGiven(certificate) }),
      });
      return describeEif(eif);
    }),
  );
  const compared = PCR_NAMES.filter((name) => expected[name] !== undefined);
  context.print('checksum:   right');
  context.print(
    `signature:  ${description.IsSigned ? `valid at ${now.toISOString()}, by ${signerOf(description.SigningCertificate?.IssuerName)}` : 'none'}`,
  );
  context.print(
    `registers:  ${compared.length === 0 ? 'not compared' : `${compared.join(', ')} as expected`}`,
  );
  if (description.IsSigned && certificate === undefined && expected.PCR8 === undefined)
    context.warn('Anybody can sign with a certificate of their own: name yours with --signing-certificate');
  context.result({
    valid: true,
    signed: description.IsSigned,
    compared,
    at: now.toISOString(),
    Measurements: description.Measurements,
  });
  return undefined;
}

function signerOf(issuer: Readonly<Record<string, string>> = {}): string {
  return JSON.stringify(issuer['commonName'] ?? Object.values(issuer)[0] ?? '');
}

function registersOf(given: readonly string[] = []): Partial<Record<PcrName, string>> {
  const registers: Partial<Record<PcrName, string>> = {};
  for (const pair of given) {
    const [, name, value] = /^(PCR[0128])=(?:0x)?([0-9a-f]{96})$/i.exec(pair) ?? [];
    if (name === undefined || value === undefined)
      throw new CliError('bad_argument', `--expect ${JSON.stringify(pair)} names no register`, {
        expected: `${PCR_NAMES.join(', ')}, "=" and 96 hex digits`,
        exitCode: EXIT.usage,
      });
    registers[name.toUpperCase() as PcrName] = value.toLowerCase();
  }
  return registers;
}
