import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { printable, printableJson } from '@dstack-cloud/encoding';
import type { GlobalOptions } from './global-options.ts';

/** Where a command reads from and writes to; tests replace parts of it. */
export interface Host {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly interactive: boolean;
  /** Whether standard output is a terminal: only there are colours of use. */
  readonly terminal: boolean;
  readonly now: () => Date;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  /** Fires on Ctrl-C. */
  readonly signal: AbortSignal;
  /** Fires when nobody reads the output any more. */
  readonly unread: AbortSignal;
}

/** Longest text that is written at once. */
const MAX_TEXT = 256 * 1024;

/**
 * What every command gets: data goes to stdout, words to stderr. Much of it is somebody else's text (evidence, guests,
 * peers, files), so each way out makes everything visible that could command the terminal or hide something.
 */
export interface Context extends Host, GlobalOptions {
  /** Directory that -C names, or the current one. */
  readonly directory: string;
  readonly configPath: string;
  /** One line of data for people; nothing with --json. `paint` gives the safe line its colours. */
  readonly print: (line: string, paint?: (line: string) => string) => void;
  /** A JSON document for people and for other programs, after a label; whole, and nothing with --json. */
  readonly document: (value: object, label?: string) => void;
  /** The result for programs; nothing without --json. */
  readonly result: (value: unknown) => void;
  /** One of many results, on a line of its own; nothing without --json. */
  readonly record: (value: unknown) => void;
  /** Progress and explanation, on stderr; silent with --quiet. */
  readonly info: (line: string) => void;
  readonly warn: (line: string) => void;
  readonly debug: (line: string) => void;
}

export function createContext(host: Host, options: GlobalOptions): Context {
  const directory = resolve(host.cwd, options.chdir ?? '.');
  return {
    ...host,
    ...options,
    color: options.color && host.terminal,
    stdout: (text) => host.stdout(lines(text)),
    stderr: (text) => host.stderr(lines(text)),
    directory,
    configPath: configPath(host, options),
    print: (line, paint = (safe) => safe) => {
      if (!options.json) host.stdout(`${paint(oneLine(line))}\n`);
    },
    document: (value, label = '') => {
      if (!options.json) host.stdout(`${oneLine(label)}${jsonText(value)}`);
    },
    result: (value) => {
      if (options.json) host.stdout(jsonText(value));
    },
    record: (value) => {
      if (options.json) host.stdout(`${printableJson(JSON.stringify(value))}\n`);
    },
    info: (line) => {
      if (!options.quiet) host.stderr(`${oneLine(line)}\n`);
    },
    warn: (line) => host.stderr(`Warning: ${oneLine(line)}\n`),
    debug: (line) => {
      if (options.verbose) host.stderr(`Debug: ${oneLine(line)}\n`);
    },
  };
}

/** One JSON document, as every `--json` prints it. */
export function jsonText(value: unknown): string {
  return `${printableJson(JSON.stringify(value, null, 2))}\n`;
}

function oneLine(text: string): string {
  return printable(text, { max: MAX_TEXT, keep: '\t' });
}

function lines(text: string): string {
  return printable(text, { max: MAX_TEXT, keep: '\n\t' });
}

/** `--config`, else `DSTACK_CLOUD_CONFIG`, else `dstack-cloud/config.json` below the XDG config folder. */
function configPath(host: Host, options: GlobalOptions): string {
  const named = options.config ?? host.env['DSTACK_CLOUD_CONFIG'];
  if (named !== undefined && named !== '') return resolve(host.cwd, named);
  const xdg = host.env['XDG_CONFIG_HOME'];
  const base = xdg !== undefined && isAbsolute(xdg) ? xdg : join(homeOf(host), '.config');
  return join(base, 'dstack-cloud/config.json');
}

/** `~` at the start of a path is the home folder. */
export function expandHome(host: Pick<Host, 'env'>, path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homeOf(host), path.slice(1)) : path;
}

function homeOf(host: Pick<Host, 'env'>): string {
  return host.env['HOME'] ?? homedir();
}
