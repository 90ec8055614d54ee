import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { commandSigner, type EifSigner, keySigner } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';

export type Options = Readonly<Record<string, unknown>>;

/** The value of an option, when it is given. */
export function textOption(options: Options, name: string): string | undefined {
  const value = options[name];
  return value === undefined ? undefined : String(value);
}

/** The same as a path, from the folder that -C names. */
export function pathOption(context: Context, options: Options, name: string): string | undefined {
  const value = textOption(options, name);
  return value === undefined ? undefined : resolve(context.directory, value);
}

/** A file that the user named. @throws CliError `file_missing` */
export async function readGiven(path: string): Promise<Uint8Array> {
  try {
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
    throw new CliError('file_missing', `${path} does not exist`);
  }
}

/** Who signs, when somebody does: `--signing-certificate` with `--private-key` or `--sign-command`. */
export async function signerOption(context: Context, options: Options): Promise<EifSigner | undefined> {
  const certificate = pathOption(context, options, 'signingCertificate');
  const key = pathOption(context, options, 'privateKey');
  const command = textOption(options, 'signCommand');
  if (certificate === undefined && key === undefined && command === undefined) return undefined;
  if (certificate === undefined || (key === undefined) === (command === undefined))
    throw new CliError('usage', 'A signature takes a certificate, and a key or a command', {
      expected: '--signing-certificate FILE with either --private-key FILE or --sign-command COMMAND',
      exitCode: EXIT.usage,
    });
  const pem = await readGiven(certificate);
  return key === undefined ? commandSigner(pem, command!) : keySigner(pem, await readGiven(key));
}

/** RFC 3339, or Unix seconds. @throws CliError `bad_argument` */
export function timeOption(options: Options, name: string, otherwise: Date): Date {
  const value = textOption(options, name);
  if (value === undefined) return otherwise;
  const time = new Date(/^\d{1,11}$/.test(value) ? Number(value) * 1000 : value);
  if (Number.isNaN(time.getTime()))
    throw new CliError('bad_argument', `--${name} ${JSON.stringify(value)} is not a time`, {
      expected: 'such as 2026-11-30T12:00:00Z, or Unix seconds',
      exitCode: EXIT.usage,
    });
  return time;
}
