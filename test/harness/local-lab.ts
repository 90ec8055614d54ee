/**
 * The command line on platform local, with real supervisors and programs that stand for the guest's: a boot takes a moment,
 * and the compose file says how it ends. No key service, no chain.
 */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Host, runCli } from '@dstack-cloud/cli';
import { build } from '@dstack-cloud/scripts/build';
import { isAlive, type ProcessIdentity } from '@dstack-cloud/vmm';
import { FAKE_GUEST } from '@dstack-cloud/vmm/machine-lab';
import type { Outcome } from './run-command.ts';

export interface LocalLab {
  readonly root: string;
  /** Folder of the machines. */
  readonly runPath: string;
  readonly configPath: string;
  /** Environment for the command line as a program of its own. */
  readonly env: Readonly<Record<string, string>>;
  /** One command line, in this process. */
  cli(args: readonly string[], host?: Partial<Host>): Promise<Outcome>;
  /** A new project; returns its folder. */
  project(name: string): Promise<string>;
  cleanUp(): Promise<void>;
}

export async function localLab(): Promise<LocalLab> {
  const { directory: bin } = await build();
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'local-lab-')));
  for (const [name, source] of Object.entries(FAKE_GUEST)) writeFileSync(join(root, `${name}.js`), source);
  symlinkSync(join(bin, 'dstack-vmm.js'), join(root, 'dstack-vmm.js'));
  const runPath = join(root, 'vm');
  const configPath = join(root, 'config.json');
  const local = { run_path: runPath, seed_file: join(root, 'seed'), engine: 'process' };
  writeFileSync(configPath, JSON.stringify({ platform: 'local', local }));
  const env = { HOME: root, DSTACK_CLOUD_CONFIG: configPath, DSTACK_BIN_DIR: root };
  process.env['DSTACK_BIN_DIR'] = root;

  const cli: LocalLab['cli'] = async (args, host = {}) => {
    const out = { stdout: '', stderr: '' };
    const code = await runCli(args, {
      cwd: root,
      env,
      interactive: false,
      terminal: false,
      now: () => new Date(),
      stdout: (text) => {
        out.stdout += text;
      },
      stderr: (text) => {
        out.stderr += text;
      },
      signal: new AbortController().signal,
      unread: new AbortController().signal,
      ...host,
    });
    return { code, ...out };
  };
  return {
    root,
    runPath,
    configPath,
    env,
    cli,
    project: async (name) => {
      const made = await cli(['new', name, '--kp', 'none']);
      if (made.code !== 0) throw new Error(made.stderr);
      setMode(join(root, name), 'ok');
      return join(root, name);
    },
    cleanUp: async () => {
      for (const name of readdirSync(root))
        await cli(['-C', join(root, name), '-q', 'stop']).catch(() => undefined);
      delete process.env['DSTACK_BIN_DIR'];
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** Makes the next boot of a project go as the mode says (see the machine lab); `mark` makes it another compose file. */
export function setMode(project: string, mode: string, mark: string = ''): void {
  const text = `services:\n  web:\n    image: x\n    command: ["web"]\n# mode: ${mode} ${mark}\n`;
  writeFileSync(join(project, 'docker-compose.yaml'), text);
}

export interface LabState {
  readonly status: string;
  readonly compose_hash: string;
  readonly machine_dir: string;
  readonly revisions: readonly unknown[];
}

/** The project's `state.json`. */
export function stateOf(project: string): LabState {
  return JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')) as LabState;
}

/** The supervisor that runs a machine now; undefined when there is none. */
export function supervisorOf(machine: string): ProcessIdentity | undefined {
  const text = readFileSync(join(machine, 'vm-state.json'), 'utf8');
  const { supervisor } = JSON.parse(text) as { supervisor: ProcessIdentity | null };
  return supervisor !== null && isAlive(supervisor) ? supervisor : undefined;
}
