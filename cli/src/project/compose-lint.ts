import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  type ComposeFile,
  type ComposeMap,
  ComposeValues,
  changedScalars,
  explainStayingFiles,
  isOfTheMachine,
  memberOf,
  readComposeFile,
  serviceVolumes,
} from '@dstack-cloud/app/compose-file';
import { parseImageReference } from '@dstack-cloud/app/image-archive';
import { CliError, messageOf } from '../errors.ts';

/** What the file is checked with. */
export interface LintOptions {
  /** Folder that relative paths are relative to. */
  readonly directory: string;
  /** Whether the project seals an environment. */
  readonly hasSealedEnv: boolean;
  /** The scripts inside the machine; they can make files that do not travel. */
  readonly scripts: readonly string[];
}

/** What was found in a compose file that can be read. */
export interface LintResult {
  readonly warnings: readonly string[];
  /** Why the application cannot start: `deploy` refuses, while measuring the file is harmless. */
  readonly blockers: readonly string[];
}

/** Most warnings worth reading. */
const MAX_WARNINGS = 20;

/**
 * Looks at a compose file without ever changing it, with the reader of the guest.
 *
 * @throws CliError `bad_compose_file` with line and column
 */
export function checkComposeFile(text: string, name: string, options: LintOptions): LintResult {
  const file = parse(text, name);
  const values = new ComposeValues(file.source, { variables: {}, isDraft: true });
  const { warnings: staying, blockers } = explainStayingFiles(file, options);
  const found = [
    ...staying,
    ...[...file.services].flatMap(([service, body]) => lintService(service, body, values, options)),
    ...changedScalars(file).map(
      ({ service, name: variable, text: value, at }) =>
        `Service ${service}: ${variable} has no quotes (${file.source.place(at)}); container engines take ${value} for a number and change it`,
    ),
  ];
  const more = found.length - MAX_WARNINGS;
  return {
    warnings: more > 0 ? [...found.slice(0, MAX_WARNINGS), `… and ${more} more warnings`] : found,
    blockers,
  };
}

function parse(text: string, name: string): ComposeFile {
  try {
    return readComposeFile(text, name);
  } catch (error) {
    const line = /:(\d+):\d+: /.exec(messageOf(error))?.[1];
    throw new CliError('bad_compose_file', messageOf(error), {
      hint: line === undefined ? `Correct ${name}` : `Correct line ${line} of ${name}`,
      cause: error,
    });
  }
}

function lintService(
  name: string,
  service: ComposeMap,
  values: ComposeValues,
  options: LintOptions,
): string[] {
  const found: string[] = [];
  const image = values.member(service, 'image');
  if (image !== undefined && parseImageReference(image)?.kind === 'tag')
    found.push(
      `Service ${name}: image ${image} is not pinned; its content is not measured (use image@sha256:…)`,
    );
  if (values.flag(service, 'privileged', false))
    found.push(`Service ${name} is privileged: it can read every key of the machine`);
  if (memberOf(service, 'restart') === undefined) found.push(`Service ${name} has no restart policy`);
  for (const { type, source } of serviceVolumes(service, values)) {
    const problem = type === 'bind' && source !== undefined ? hostPath(source, options.directory) : undefined;
    if (problem !== undefined) found.push(`Service ${name}: ${problem}`);
  }
  return found;
}

/** Mounts of these mean the machine's own, and work. */
const MEANT_PATHS =
  /^\/(?:$|(?:cgroup|dev|dstack|proc|run|sys|var\/run|lib\/modules|var\/lib\/docker|usr\/share\/zoneinfo|etc\/(?:localtime|timezone|ssl|ca-certificates))(?:\/|$))/;
function hostPath(path: string, directory: string): string | undefined {
  if (MEANT_PATHS.test(path)) return undefined;
  if (isOfTheMachine(path)) return `${path} is a path of the machine, not of your host`;
  const isFile = statSync(resolve(directory, path), { throwIfNoEntry: false })?.isFile() === true;
  return isFile
    ? `the file ${path} does not travel to the machine; write it into configs (content: |)`
    : `${path} is a path of the machine, not of your host; it starts empty`;
}
