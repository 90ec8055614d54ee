import { CliError } from '../errors.ts';

/** One text for everything that is documented and not there. */
export function notYet(what: string): CliError {
  return new CliError('not_yet', `${what}: not yet on this version`, {
    hint: 'Platforms local, gcp and nitro work: set "platform" in app.json',
  });
}
