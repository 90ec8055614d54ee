import { basename, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';

/** An archive of an OS image: where it is, and the folder that it makes. */
export interface ImageSource {
  readonly url: URL;
  readonly name: string;
}

const VERSION = /-(\d+)\.(\d+)\.(\d+)$/;

/** An address, a path of this host, or a name with a version, which says where it was released. @throws CliError */
export function imageSource(context: Context, given: string): ImageSource {
  const isUrl = /^(https?|file):\/\//.test(given);
  if (isUrl && URL.canParse(given)) return named(new URL(given));
  if (given.includes('/') || given.endsWith('.tar.gz'))
    return named(pathToFileURL(resolve(context.directory, given)));
  const version = VERSION.exec(given);
  if (version === null || !given.startsWith('dstack-'))
    throw new CliError('bad_argument', `${JSON.stringify(given)} does not say which image is meant`, {
      expected: 'a URL, the path of an archive, or a name such as dstack-cloud-0.6.0',
      exitCode: EXIT.usage,
    });
  return { name: given, url: new URL(`${releases(given, version)}/${given}-uki.tar.gz`) };
}

/** Releases of the cloud images have a repository of their own; others moved with 0.6.0. */
function releases(name: string, [, major, minor, patch]: RegExpExecArray): string {
  const version = `${major}.${minor}.${patch}`;
  if (name.startsWith('dstack-cloud-'))
    return `https://github.com/Phala-Network/meta-dstack-cloud/releases/download/v${version}`;
  const isNew = Number(major) > 0 || Number(minor) >= 6;
  return isNew
    ? `https://github.com/Dstack-TEE/dstack/releases/download/guest-os-v${version}`
    : `https://github.com/Dstack-TEE/meta-dstack/releases/download/v${version}`;
}

function named(url: URL): ImageSource {
  const file = basename(decodeURIComponent(url.pathname));
  const name = /^(.+?)(-uki)?\.tar\.gz$/.exec(file)?.[1];
  if (name !== undefined) return { url, name };
  throw new CliError('bad_argument', `${file} is no archive of an OS image`, {
    expected: 'a file NAME.tar.gz or NAME-uki.tar.gz',
    exitCode: EXIT.usage,
  });
}
