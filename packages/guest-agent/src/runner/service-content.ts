import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import type { FileUse } from '@dstack-cloud/app/compose-file';
import { GuestError } from '../errors.ts';
import { machinePath, type ProcessFolders } from './place-service.ts';

/** Largest config or secret, as engines have it for secrets, bytes. */
const MAX_BYTES = 500 * 1024;

/** The content of a config or secret. @throws GuestError `start-failed` when it is not there */
export async function serviceContent(
  service: string,
  { kind, name, content }: FileUse,
  variables: Readonly<Record<string, string>>,
  folders: ProcessFolders,
): Promise<string | Uint8Array> {
  const fail = (problem: string, cause?: unknown): GuestError =>
    new GuestError('start-failed', `Service ${service}: ${kind} ${name} ${problem}`, { cause });
  if (content.from === 'text') return content.text;
  if (content.from === 'variable') {
    const value = Object.hasOwn(variables, content.name) ? variables[content.name] : undefined;
    if (value === undefined) throw fail(`takes its value from ${content.name}, which is not set`);
    return value;
  }
  if (content.from === 'engine') throw fail('is kept by a container engine');
  try {
    return await readFileBounded(join(machinePath(content.path, folders)), MAX_BYTES);
  } catch (cause) {
    throw fail(`is the file ${content.path}, which cannot be read in the machine`, cause);
  }
}
