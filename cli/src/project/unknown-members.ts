import { APP_COMPOSE_MEMBERS } from '@dstack-cloud/app';
import { nearestName } from '@dstack-cloud/encoding';
import { CliError } from '../errors.ts';

/**
 * Refuses members of `app.json` that nobody would read although they look like a demand: a mistyped name, or a member of
 * app-compose.json, which a deploy writes itself. `_comment…` members are comments; other unknown ones may be another
 * tool's and are named.
 *
 * @param section the object that the members are of; empty for the top level
 * @returns warnings
 * @throws CliError `bad_app_json`
 */
export function checkMembers(
  members: Readonly<Record<string, unknown>>,
  known: readonly string[],
  path: string,
  section = '',
): string[] {
  const warnings: string[] = [];
  for (const key of Object.keys(members)) {
    if (known.includes(key) || key.startsWith('_comment')) continue;
    const full = section === '' ? key : `${section}.${key}`;
    if (section === '' && APP_COMPOSE_MEMBERS.includes(key))
      throw new CliError(
        'bad_app_json',
        `${path}: ${full} is a member of app-compose.json, not of app.json`,
        {
          expected: 'members that a deploy reads',
          found: full,
          hint: 'Write the app-compose.json yourself and name it in app_compose_file; its bytes are then measured as they are',
        },
      );
    const near = nearestName(key, known);
    if (near !== undefined)
      throw new CliError('bad_app_json', `${path}: unknown member ${full}; did you mean ${near}?`, {
        expected: near,
        found: full,
        hint: `Correct the name in ${path}; a member that begins with _comment is a comment`,
      });
    warnings.push(`${path}: nobody reads the member ${full}`);
  }
  return warnings;
}
