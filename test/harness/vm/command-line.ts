/** `dstack-cloud` as a program of its own, for projects whose machines are virtual ones. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Outcome, repository, runCommand } from '../run-command.ts';

/** A boot takes a minute on a quiet machine without KVM, and several on a loaded one. */
export const BOOT_MS = 600_000;

export interface CommandLine {
  /** One command, however it ends. */
  run(args: readonly string[], project: string): Promise<Outcome>;
  /** One command, which must succeed; its JSON. */
  must<T = Record<string, unknown>>(args: readonly string[], project: string): Promise<T>;
  /** What the application of a project answers at its mapped port, once it does. */
  page(project: string): Promise<string>;
}

/** @param config path of the global configuration */
export function commandLine(config: string): CommandLine {
  const run: CommandLine['run'] = async (args, project) => {
    const program = [process.execPath, join(repository, 'dist/bin/dstack-cloud.js')];
    return await runCommand([...program, '--json', '-C', project, ...args], {
      env: { DSTACK_CLOUD_CONFIG: config },
      timeoutMs: BOOT_MS,
    });
  };
  const consoleTail = async (project: string): Promise<string> =>
    (await run(['logs', '-n', '60'], project).catch(() => ({ stdout: '' }))).stdout;
  const must: CommandLine['must'] = async <T>(args: readonly string[], project: string) => {
    const { code, stdout, stderr } = await run(args, project);
    if (code === 0) return JSON.parse(stdout === '' ? '{}' : stdout) as T;
    throw new Error(`dstack-cloud ${args.join(' ')}: ${stderr}\n${stdout}\n${await consoleTail(project)}`);
  };
  return {
    run,
    must,
    async page(project) {
      const deadline = Date.now() + BOOT_MS;
      for (;;) {
        const { urls } = await must<{ urls: Record<string, string> }>(['status'], project);
        try {
          const answer = await fetch(urls['app'] ?? '', { signal: AbortSignal.timeout(20_000) });
          if (answer.ok) return await answer.text();
        } catch {
          // Not yet.
        }
        if (Date.now() > deadline)
          throw new Error(`The page does not answer:\n${await consoleTail(project)}`);
        await sleep(1_000);
      }
    },
  };
}

/** Changes members of a project's `app.json`. */
export function editApp(project: string, members: { readonly [member: string]: unknown }): void {
  const path = join(project, 'app.json');
  const app = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  const local = { ...(app['local_config'] as object), ...(members['local_config'] as object | undefined) };
  writeFileSync(path, JSON.stringify({ ...app, ...members, local_config: local }, null, 2));
}

/** The project's `state.json`. */
export function projectState(project: string): Record<string, string> {
  return JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')) as Record<string, string>;
}
