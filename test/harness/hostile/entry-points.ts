/** Every listener of every service that a stranger can reach, with the limits that it has by default. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fixturePath } from '@dstack-cloud/test/fixtures';
import { freePort } from '@dstack-cloud/vmm';
import { type KmsHost, type KmsLab, startKmsLab } from '../kms-lab.ts';
import { startLoopbackServer } from '../loopback-server.ts';
import { startWatched, type WatchedProgram } from './watched-program.ts';

export type EntryPoint = {
  readonly name: 'KMS' | 'KMS onboarding' | 'KMS admin' | 'auth API' | 'verifier' | 'guest agent' | 'VMM';
  readonly isTls: boolean;
  readonly port: number;
  readonly program: WatchedProgram;
  /** A page that answers without a credential. */
  readonly page: string;
  /** Where a body goes. */
  readonly post: string;
  /** In every request, where there is a credential. */
  readonly authorization?: string;
};

export type EntryPoints = {
  readonly lab: KmsLab;
  readonly host: KmsHost;
  readonly all: readonly EntryPoint[];
  readonly of: (name: EntryPoint['name']) => EntryPoint;
  /** Requests to the collateral services of Intel and AMD so far. */
  fetches(): number;
  stop(): Promise<void>;
};

/** Each release waits for its record to be on disk. How busy others keep that disk is not what is measured here. */
const MEMORY = '/dev/shm';
const TOKEN = 'a-token-that-nobody-guesses';

/** Starts them all. The guest agent has the identity of the simulator's fixtures. */
export async function startEntryPoints(): Promise<EntryPoints> {
  const lab = await startKmsLab(existsSync(MEMORY) ? MEMORY : tmpdir());
  const vendor = await startLoopbackServer((_, response) => void response.writeHead(404).end());
  const directory = mkdtempSync(join(tmpdir(), 'entry-points-'));
  const programs: WatchedProgram[] = [];
  const start = (...input: Parameters<typeof startWatched>): WatchedProgram => {
    const program = startWatched(...input);
    programs.push(program);
    return program;
  };
  const file = (name: string, content: object): string => {
    const path = join(directory, name);
    writeFileSync(path, JSON.stringify(content), { mode: 0o600 });
    return path;
  };
  try {
    const ports = await Promise.all(Array.from({ length: 7 }, () => freePort()));
    const [main, admin, onboarding, authApi, verifier, agent, machines] = ports as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const host = await lab.host('open', {
      rpc: { port: main },
      core: {
        admin: { enabled: true, port: admin, auth_token: TOKEN },
        // Genuine workloads ask more often than any would.
        rate_limit: { enabled: true, attested_per_minute: 10_000, attested_burst: 10_000 },
        attestation: { urls: { amd_kds: vendor.url } },
      },
    });
    const kms = start('dstack-kms', ['--config', host.configFile], { env: host.environment });
    const newcomer = await lab.host('newcomer', {
      rpc: { port: onboarding },
      core: { onboard: { port: onboarding, auto_bootstrap_domain: '', token: TOKEN } },
    });
    const onboard = start('dstack-kms', ['--config', newcomer.configFile], { env: newcomer.environment });
    const auth = start('dstack-auth-api', [], {
      env: { PORT: String(authApi), AUTH_CONFIG_PATH: file('auth-config.json', {}) },
    });
    const toml = join(directory, 'dstack-verifier.toml');
    const urls = `urls = { pccs = "${lab.pccs.url}", amd_kds = "${vendor.url}" }`;
    const trust = `insecure_allow_external_trust_anchors = true\nroot_ca = { tdx = "${lab.rootFile}" }`;
    writeFileSync(toml, `address = "127.0.0.1"\nport = ${verifier}\n[attestation]\n${urls}\n${trust}\n`);
    const verify = start('dstack-verifier', ['--config', toml]);
    const home = join(directory, 'guest');
    mkdirSync(home);
    const guest = start('dstack-guest-agent', [
      '--config',
      file('guest.json', {
        root: home,
        run_dir: home,
        listen: { external: `127.0.0.1:${agent}` },
        simulator: {
          keys_file: fixturePath('simulator/appkeys.json'),
          compose_file: fixturePath('simulator/app-compose.json'),
          sys_config_file: fixturePath('simulator/sys-config.json'),
          attestation_file: fixturePath('simulator/attestation.bin'),
          patch_report_data: true,
        },
      }),
    ]);
    const vmmFile = join(directory, 'vmm.toml');
    writeFileSync(
      vmmFile,
      `address = "127.0.0.1"\nport = ${machines}\nrun_path = "./vm"\nimage_path = "./image"
[auth]\nenabled = true\ntokens = ["${TOKEN}"]\n[discovery]\nenabled = false\n`,
    );
    const vmm = start('dstack-vmm', ['serve', '--config', vmmFile]);
    await Promise.all([
      vmm.until(/"msg":"listening"/),
      kms.until(/"msg":"dstack-kms started"/),
      onboard.until(/"msg":"onboarding listener started"/),
      auth.until(/"msg":"Listening"/),
      verify.until(/"msg":"Listening"/),
      guest.until(/\n/),
    ]);
    const all: EntryPoint[] = [
      {
        name: 'KMS',
        isTls: true,
        port: main,
        program: kms,
        page: '/health',
        post: '/prpc/GetAppEnvEncryptPubKey?json',
      },
      {
        name: 'KMS onboarding',
        isTls: false,
        port: onboarding,
        program: onboard,
        page: '/health',
        post: '/prpc/Onboard.Bootstrap?json',
        authorization: `Bearer ${TOKEN}`,
      },
      {
        name: 'KMS admin',
        isTls: false,
        port: admin,
        program: kms,
        page: '/prpc/openapi.json',
        post: '/prpc/Admin.CheckBoot?json',
        authorization: `Bearer ${TOKEN}`,
      },
      {
        name: 'auth API',
        isTls: false,
        port: authApi,
        program: auth,
        page: '/health',
        post: '/bootAuth/app',
      },
      { name: 'verifier', isTls: false, port: verifier, program: verify, page: '/health', post: '/verify' },
      {
        name: 'guest agent',
        isTls: false,
        port: agent,
        program: guest,
        page: '/healthz',
        post: '/prpc/Worker.GetAttestationForAppKey?json',
      },
      {
        name: 'VMM',
        isTls: false,
        port: machines,
        program: vmm,
        page: '/health',
        // Whose body may be the largest.
        post: '/prpc/CreateVm?json',
        authorization: `Bearer ${TOKEN}`,
      },
    ];
    const stop = async (): Promise<void> => {
      await Promise.all(programs.map((program) => program.stop()));
      await Promise.all([lab.stop(), vendor.close()]);
      rmSync(directory, { recursive: true, force: true });
    };
    return {
      lab,
      host,
      all,
      of: (name) => all.find((one) => one.name === name)!,
      fetches: () => lab.pccs.seen.length + vendor.seen.length,
      stop,
    };
  } catch (error) {
    await Promise.all(programs.map((program) => program.stop()));
    await lab.stop();
    throw error;
  }
}
