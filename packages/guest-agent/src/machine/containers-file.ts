import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** One application container, or the plain process that stands for it. */
export interface ContainerState {
  readonly name: string;
  readonly state: string;
  readonly status: string;
  /** Unix seconds. */
  readonly created: number;
}

/** What the list says of a process that the runner started. */
interface ListedProcess {
  readonly name: string;
  readonly state: string;
  readonly exitCode: number | null | undefined;
  /** Unix milliseconds. */
  readonly startedAt: number;
}

/** Where the runner tells the agent which processes it runs. */
export function containersFile(runDir: string): string {
  return join(runDir, 'containers.json');
}

const schema = z
  .array(z.object({ name: z.string(), state: z.string(), status: z.string(), created: z.int() }))
  .max(1024);

/** Replaces the list; it is lost with the machine, so it is not synced to disk. */
export function writeContainers(path: string, services: readonly ListedProcess[]): void {
  const list: ContainerState[] = services.map(({ name, state, exitCode, startedAt }) => ({
    name,
    state,
    status: state === 'running' ? 'Up' : state === 'exited' ? `Exited (${exitCode ?? 0})` : 'Restarting',
    created: Math.floor(startedAt / 1000),
  }));
  try {
    writeFileSync(`${path}.tmp`, JSON.stringify(list), { mode: 0o600 });
    renameSync(`${path}.tmp`, path);
  } catch {
    // The list is for display; an application does not stop because it cannot be shown.
  }
}

/** Reads the text of the list; anything else is no containers. */
export function parseContainers(text: string): ContainerState[] {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return [];
  }
}
