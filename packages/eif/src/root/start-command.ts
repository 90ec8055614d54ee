import { utf8 } from '@dstack-cloud/encoding';
import { EifError } from '../errors.ts';
import type { ImageConfig } from './container-image.ts';

/** What the enclave starts. */
export interface StartCommand {
  readonly argv: readonly string[];
  /** `NAME=VALUE`. */
  readonly environment: readonly string[];
}

export interface StartOptions {
  /** Takes the place of the command of the image. */
  readonly command?: readonly string[] | undefined;
  /** Take CMD alone when there is one, else ENTRYPOINT, as nitro-cli does. */
  readonly nitroCliCompat?: boolean | undefined;
  readonly warn: (line: string) => void;
}

/**
 * What the image says to start, as a container engine joins it: ENTRYPOINT, then CMD. nitro-cli takes only one of the two; the
 * user is told where that would run something else.
 *
 * @throws EifError `bad-image`, `bad-argument` when there is nothing to start
 */
export function startCommand(config: ImageConfig['config'], options: StartOptions): StartCommand {
  const { warn } = options;
  const environment = config?.Env ?? [];
  const user = config?.User ?? '';
  if (user !== '' && user !== 'root' && user !== '0' && user !== '0:0')
    warn(`The image says USER ${JSON.stringify(user)}, but the enclave's init starts it as root`);
  if ((config?.WorkingDir ?? '/') !== '/' && config?.WorkingDir !== '')
    warn(
      `The image says WORKDIR ${JSON.stringify(config?.WorkingDir)}, but the enclave's init starts it in /`,
    );
  if (options.command !== undefined && options.command.length > 0)
    return { argv: options.command, environment };
  const entrypoint = config?.Entrypoint ?? [];
  const cmd = config?.Cmd ?? [];
  const both = entrypoint.length > 0 && cmd.length > 0;
  if (both && options.nitroCliCompat === true)
    warn(
      `ENTRYPOINT of the image is not run: with --nitro-cli-compat, ${JSON.stringify(cmd)} is started alone`,
    );
  else if (both)
    warn(
      `ENTRYPOINT and CMD of the image are joined, as Docker does; nitro-cli would start ${JSON.stringify(cmd)} alone (--nitro-cli-compat)`,
    );
  const argv =
    options.nitroCliCompat === true ? (cmd.length > 0 ? cmd : entrypoint) : [...entrypoint, ...cmd];
  if (argv.length > 0) return { argv, environment };
  throw new EifError('bad-argument', 'Nothing says what the enclave starts', {
    expected: 'an image with ENTRYPOINT or CMD, or a command',
    hint: 'Give the command after the options: -- PROGRAM ARGUMENT…',
  });
}

/** The files `cmd` and `env` of the second ramdisk: an element a line. @throws EifError `bad-image` */
export function startFiles({ argv, environment }: StartCommand): { cmd: Uint8Array; env: Uint8Array } {
  for (const word of argv)
    if (word.includes('\n'))
      unlike(
        `The word ${JSON.stringify(word)} of the command has a line break, and the file cmd has a word a line`,
      );
  if (argv.some((word) => word === ''))
    unlike('A word of the command is empty, and the file cmd would have an empty line for it');
  for (const variable of environment) {
    const name = JSON.stringify(variable.split('=', 1)[0]);
    if (variable.includes('\n'))
      unlike(`The variable ${name} has a line break, and the file env has a variable a line`);
    if (!/^[^=\0]+=[^\0]*$/.test(variable))
      unlike(`${name} in the environment of the image is not NAME=VALUE`);
  }
  return { cmd: lines(argv), env: lines(environment) };
}

function lines(words: readonly string[]): Uint8Array {
  return utf8(words.map((word) => `${word}\n`).join(''));
}

function unlike(message: string): never {
  throw new EifError('bad-image', message, {
    hint: 'Put it into a script or a file of the image instead',
  });
}
