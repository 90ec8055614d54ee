import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Host } from './context.ts';
import { runCli } from './run-cli.ts';

/** Result of one command line in a test. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A folder of its own, and the command line inside it, with a fixed clock and no terminal. */
export class Sandbox {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'cli-test-'));
  now: Date = new Date('2026-11-23T12:00:00Z');
  env: NodeJS.ProcessEnv = {};
  /** Whether standard output is said to be a terminal. */
  terminal = false;
  /** Fires when the command is to be interrupted. */
  signal: AbortSignal = new AbortController().signal;

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  async run(...argv: string[]): Promise<Outcome> {
    let stdout = '';
    let stderr = '';
    const host: Host = {
      ...this.host(),
      stdout: (text) => {
        stdout += text;
      },
      stderr: (text) => {
        stderr += text;
      },
    };
    return { code: await runCli(argv, host), stdout, stderr };
  }

  /** Surroundings of a command that prints nowhere. */
  host(): Host {
    return {
      cwd: this.directory,
      env: { HOME: this.directory, ...this.env },
      interactive: false,
      terminal: this.terminal,
      now: () => this.now,
      stdout: () => {},
      stderr: () => {},
      signal: this.signal,
      unread: new AbortController().signal,
    };
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
