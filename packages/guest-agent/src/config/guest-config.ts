import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DIRECTORY_MACHINE, DISK_MACHINE, knownKeys, type MachineAbilities, table } from '@dstack-cloud/app';
import type { PortMapping } from '@dstack-cloud/app/compose-file';
import { nearestName } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { GuestError } from '../errors.ts';

/** Largest configuration file, bytes. */
const MAX_CONFIG_BYTES = 64 * 1024;

const path = z.string().min(1);
const port = z.int().min(0).max(65_535);
const schema = z.strictObject({
  root: path.default('/'),
  host_shared: path.optional(),
  work_dir: path.optional(),
  run_dir: path.optional(),
  data_dir: path.optional(),
  devices: z.strictObject({ tsm: path, rtmr: path, ccel: path.optional() }).optional(),
  tpm: z.strictObject({ device: path, event_log: path }).optional(),
  simulated_tee: z.strictObject({ endpoint: z.string().regex(/^vsock:\d{1,10}:\d{1,10}$/) }).optional(),
  event_log: path.optional(),
  host_api_url: z.string().min(1).optional(),
  attestation: z
    .strictObject({
      root_ca: z.strictObject({ tdx: path.nullish() }).default({}),
      urls: z.strictObject({ pccs: z.string().nullish(), amd_kds: z.string().nullish() }).default({}),
    })
    .default({ root_ca: {}, urls: {} }),
  require_kms_attestation: z.boolean().default(true),
  allow_app_events: z.boolean().default(true),
  listen: z
    .strictObject({
      dstack_sock: path.optional(),
      tappd_sock: path.optional(),
      external: z.string().nullish(),
      guest_api: z.string().nullish(),
    })
    .default({}),
  simulator: z
    .strictObject({
      keys_file: path,
      compose_file: path,
      sys_config_file: path,
      attestation_file: path,
      patch_report_data: z.boolean().default(true),
    })
    .optional(),
  runner: z
    .strictObject({
      engine: z.enum(['auto', 'docker', 'podman', 'process']).default('auto'),
      log_dir: path.optional(),
      images_disk: path.optional(),
      env: table(z.string()).default({}),
      engine_env: table(z.string()).default({}),
      project: z
        .string()
        .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/)
        .default('dstack'),
      ports: z
        .array(z.strictObject({ address: z.string().min(1), host: port, guest: port }))
        .max(64)
        .default([]),
    })
    .prefault({}),
});

/** All paths and addresses of one guest, resolved; a directory can stand for the machine. */
export interface GuestConfig {
  readonly root: string;
  readonly hostShared: string;
  readonly workDir: string;
  readonly runDir: string;
  /** The data disk's mount point; in a simulated machine a plain directory. */
  readonly dataDir: string;
  readonly devices: { readonly tsm: string; readonly rtmr: string; readonly ccel: string | undefined };
  /** The TPM of key provider `tpm`: devices in order of preference, and the log of the firmware. */
  readonly tpm: { readonly devices: readonly string[]; readonly eventLog: string };
  /** TSM endpoint that stands in for TDX hardware; only a development image has it. */
  readonly simulatedTee: string | undefined;
  readonly eventLog: string;
  readonly hostApiUrl: string | undefined;
  /** File of a TDX root beside the vendor's, for simulated hardware; undefined for the vendor's alone. */
  readonly tdxRootFile: string | undefined;
  readonly pccsUrl: string | undefined;
  readonly amdKdsUrl: string | undefined;
  /** Refuse a KMS whose certificate carries no attestation. */
  readonly requireKmsAttestation: boolean;
  readonly allowAppEvents: boolean;
  readonly listen: {
    readonly dstackSock: string;
    readonly tappdSock: string;
    /** `HOST:PORT`, `unix:PATH`, or undefined for none. */
    readonly external: string | undefined;
    readonly guestApi: string | undefined;
  };
  readonly simulator: SimulatorConfig | undefined;
  readonly runner: {
    readonly engine: 'auto' | 'docker' | 'podman' | 'process';
    readonly logDir: string;
    /** File or disk with archives of container images; undefined for none. */
    readonly imagesDisk: string | undefined;
    readonly env: Readonly<Record<string, string>>;
    /** Variables by which the engine's client finds its daemon; applications do not get them. */
    readonly engineEnv: Readonly<Record<string, string>>;
    /** Name of the compose project; one of the machine's own where machines share an engine. */
    readonly project: string;
    /** Ports of the host that lead to the machine, where the engine is the host's. */
    readonly ports: readonly PortMapping[];
  };
}

/** What this machine can do for its application. */
export function machineAbilities({ root }: GuestConfig): MachineAbilities {
  return root === '/' ? DISK_MACHINE : DIRECTORY_MACHINE;
}

/** Files of a fixture identity; with it the agent needs no device and no boot. */
export interface SimulatorConfig {
  readonly keysFile: string;
  readonly composeFile: string;
  readonly sysConfigFile: string;
  readonly attestationFile: string;
  readonly patchReportData: boolean;
}

/** Reads a guest configuration file. @throws GuestError `config-invalid` naming the key and the fix */
export function loadGuestConfig(file: string): GuestConfig {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new GuestError('config-invalid', `Configuration ${file} cannot be read`, { cause });
  }
  if (text.length > MAX_CONFIG_BYTES) {
    throw new GuestError('config-invalid', `Configuration ${file} is larger than ${MAX_CONFIG_BYTES} bytes`);
  }
  return parseGuestConfig(text, dirname(resolve(file)), file);
}

/**
 * Checks the text of a guest configuration; relative paths are relative to `directory`.
 *
 * @throws GuestError `config-invalid`
 */
export function parseGuestConfig(text: string, directory: string, name = 'guest.json'): GuestConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new GuestError('config-invalid', `${name} is not JSON`, { cause });
  }
  const result = schema.safeParse(json);
  if (!result.success) {
    throw new GuestError('config-invalid', `${name}: ${result.error.issues.map(describe).join('; ')}`);
  }
  return withDefaults(result.data, (value) => resolve(directory, value));
}

function withDefaults(config: z.infer<typeof schema>, at: (path: string) => string): GuestConfig {
  const root = at(config.root);
  const optional = (value: string | null | undefined) => (value ? at(value) : undefined);
  const workDir = optional(config.work_dir) ?? join(root, 'dstack');
  const runDir = optional(config.run_dir) ?? join(root, 'run');
  const device = (value: string) => (value.startsWith('unix:') ? `unix:${at(value.slice(5))}` : at(value));
  const { devices, listen, runner, simulator, tpm } = config;
  return {
    root,
    hostShared: optional(config.host_shared) ?? join(root, 'tmp/.host-shared'),
    workDir,
    runDir,
    dataDir: optional(config.data_dir) ?? join(workDir, 'persistent'),
    devices: {
      tsm: devices ? device(devices.tsm) : join(root, 'sys/kernel/config/tsm/report/com.intel.dcap'),
      rtmr: devices ? device(devices.rtmr) : join(root, 'sys/devices/virtual/misc/tdx_guest/measurements'),
      ccel: devices ? devices.ccel && device(devices.ccel) : join(root, 'sys/firmware/acpi/tables/data/CCEL'),
    },
    tpm: {
      devices: tpm ? [device(tpm.device)] : ['dev/tpmrm0', 'dev/tpm0'].map((name) => join(root, name)),
      eventLog: tpm ? at(tpm.event_log) : join(root, 'sys/kernel/security/tpm0/binary_bios_measurements'),
    },
    simulatedTee: config.simulated_tee?.endpoint,
    eventLog: optional(config.event_log) ?? join(root, 'run/log/dstack/runtime_events.log'),
    hostApiUrl: config.host_api_url,
    tdxRootFile: optional(config.attestation.root_ca.tdx),
    pccsUrl: config.attestation.urls.pccs || undefined,
    amdKdsUrl: config.attestation.urls.amd_kds || undefined,
    requireKmsAttestation: config.require_kms_attestation,
    allowAppEvents: config.allow_app_events,
    listen: {
      dstackSock: optional(listen.dstack_sock) ?? join(runDir, 'dstack.sock'),
      tappdSock: optional(listen.tappd_sock) ?? join(runDir, 'tappd.sock'),
      external: listen.external === undefined ? '0.0.0.0:8090' : (listen.external ?? undefined),
      guestApi: listen.guest_api ?? undefined,
    },
    simulator: simulator && {
      keysFile: at(simulator.keys_file),
      composeFile: at(simulator.compose_file),
      sysConfigFile: at(simulator.sys_config_file),
      attestationFile: at(simulator.attestation_file),
      patchReportData: simulator.patch_report_data,
    },
    runner: {
      engine: runner.engine,
      logDir: optional(runner.log_dir) ?? join(root, 'var/log/dstack'),
      imagesDisk: optional(runner.images_disk),
      env: runner.env,
      engineEnv: runner.engine_env,
      project: runner.project,
      ports: runner.ports,
    },
  };
}

function describe(issue: z.core.$ZodIssue): string {
  const where = issue.path.join('.');
  if (issue.code !== 'unrecognized_keys') return `${where || '(document)'}: ${issue.message}`;
  return issue.keys
    .map((key) => {
      const nearest = nearestName(key, knownKeys(schema, issue.path));
      return `${[...issue.path, key].join('.')} is unknown${nearest ? `; did you mean ${nearest}?` : ''}`;
    })
    .join('; ');
}
