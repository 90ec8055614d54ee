/** A KMS without a machine around it: for faults of its own files and listeners. Nothing attests; no keys are released. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '@dstack-cloud/vmm';
import { repository } from './run-command.ts';

export type LoneKms = {
  readonly url: string;
  readonly port: number;
  readonly process: ChildProcess;
  /** Everything it wrote so far. */
  output(): string;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
};

/** Starts `dstack-kms` with its keys in `certDir` and its configuration in `directory`. */
export async function startLoneKms(options: {
  directory: string;
  certDir: string;
  port?: number;
  extraConfig?: string;
}): Promise<LoneKms> {
  const port = options.port ?? (await freePort());
  const { directory, certDir, extraConfig } = options;
  const config = writeLoneConfig(directory, { port, certDir, more: extraConfig });
  const child = spawn(process.execPath, [join(repository, 'dist/bin/dstack-kms.js'), '--config', config], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString('utf8');
    });
  }
  const kms: LoneKms = {
    url: `http://127.0.0.1:${port}`,
    port,
    process: child,
    output: () => output,
    stop: (signal = 'SIGTERM') =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve(child.exitCode);
        child.once('exit', (code) => resolve(code));
        child.kill(signal);
      }),
  };
  return kms;
}

/**
 * Writes `kms.toml`, and beside it a policy that allows nothing.
 * @returns path of `kms.toml`
 */
export function writeLoneConfig(
  directory: string,
  options: {
    readonly port: number;
    readonly certDir: string;
    /** Where the service has the folder, if elsewhere. */
    readonly mountedAt?: string;
    readonly more?: string | undefined;
  },
): string {
  const { port, certDir, mountedAt = directory, more = '' } = options;
  writeFileSync(join(directory, 'auth-config.json'), '{}');
  const config = join(directory, 'kms.toml');
  writeFileSync(
    config,
    `[rpc]
address = "127.0.0.1"
port = ${port}
[core]
cert_dir = "${certDir}"
[core.onboard]
address = "127.0.0.1"
port = ${port}
quote_enabled = false
[core.auth_api]
type = "allow-list"
[core.auth_api.allow_list]
file = "${join(mountedAt, 'auth-config.json')}"
${more}`,
  );
  return config;
}

/** Waits until onboarding answers. */
export async function untilOnboarding(kms: LoneKms): Promise<void> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    try {
      if ((await fetch(`${kms.url}/health`)).ok) return;
    } catch {
      // Not yet.
    }
    if (kms.process.exitCode !== null || Date.now() > deadline) {
      throw new Error(`The KMS did not start:\n${kms.output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** `Onboard.Bootstrap`. */
export async function bootstrap(kms: LoneKms): Promise<{ status: number; body: string }> {
  const response = await fetch(`${kms.url}/prpc/Onboard.Bootstrap?json`, {
    method: 'POST',
    body: JSON.stringify({ domain: 'localhost' }),
    signal: AbortSignal.timeout(20_000),
  });
  return { status: response.status, body: await response.text() };
}
