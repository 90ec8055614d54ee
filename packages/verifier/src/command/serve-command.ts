import { lstatSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type TrustRoots, type VerifyOptions, vendorCollateral } from '@dstack-cloud/attestation';
import { printableLog } from '@dstack-cloud/encoding';
import { LISTEN_BACKLOG } from '@dstack-cloud/prpc';
import { pino } from 'pino';
import { loadConfig } from '../config/load-config.ts';
import type { Config } from '../config/schema.ts';
import { configuredRoots } from '../config/trust.ts';
import { VerifierError } from '../errors.ts';
import { createMetrics } from '../service/metrics.ts';
import { createService } from '../service/server.ts';
import { oneshotCertificate, oneshotRequest } from './oneshot.ts';
import { EXIT, jsonText, type Output } from './output.ts';
import { readInput } from './read-input.ts';

const MAX_FILE_BYTES = 1024 * 1024;
/** How long requests under way may take once the service is told to stop. */
const STOP_MS = 5_000;
const HELP = `Verifies attestation evidence: as a service, or one file at a time

Usage: dstack-verifier [OPTIONS]
       dstack-verifier verify FILE... [--at TIME] [--collateral FILE|URL|none]... [--root NAME=FILE]...
                       [--report-data BYTES] [--expect NAME=VALUE]... [--chain FILE]... [--policy FILE]
                       [--no-firmware-endorsement] [--json]
       dstack-verifier bundle FILE [--out FILE] [options of verify]
       dstack-verifier eventlog FILE [--json]

Options:
  -c, --config <CONFIG>     [default: dstack-verifier.toml]
      --verify <FILE>       Oneshot mode: verify a single report JSON file and exit
      --verify-cert <FILE>  Oneshot mode: verify a DER or PEM RA-TLS certificate and exit
      --print-config        Print the effective configuration and exit
  -h, --help                Print help

Without --expect the verdict says that nothing was compared. NAME is compose_hash, app_id, os_image_hash, instance_id,
device_id, mr_system, mr_aggregated, key_provider_info, mode, or a register such as mrtd, rtmr3, pcr0, measurement.

Exit codes: 0 evidence and policy good, 1 either bad, 2 cannot judge (collateral missing), 64 not understood
`;

/** The service, and the original's one-shot modes. Ends with an exit code, or undefined while it serves. */
export async function serveCommand(argv: readonly string[], output: Output): Promise<number | undefined> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      config: { type: 'string', short: 'c', default: 'dstack-verifier.toml' },
      verify: { type: 'string' },
      'verify-cert': { type: 'string' },
      'print-config': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    output.out(HELP);
    return EXIT.good;
  }
  const config = await readConfig(values.config);
  if (values['print-config']) {
    output.out(jsonText(config, 2));
    return EXIT.good;
  }
  const roots = await configuredRoots(config, (path) => readInput(path, MAX_FILE_BYTES));
  const isOneshot = values.verify !== undefined || values['verify-cert'] !== undefined;
  const options = verifyOptions(config, roots, !isOneshot);
  if (values.verify !== undefined) return oneshotRequest(values.verify, options, output);
  if (values['verify-cert'] !== undefined) return oneshotCertificate(values['verify-cert'], options, output);
  return serve(config, options);
}

async function readConfig(path: string): Promise<Config> {
  // Only a file that is not there means the defaults.
  const isThere = lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  const text = isThere ? new TextDecoder().decode(await readInput(path, MAX_FILE_BYTES)) : undefined;
  return loadConfig(text, process.env);
}

function verifyOptions(config: Config, roots: TrustRoots, isPublic: boolean): Omit<VerifyOptions, 'now'> {
  const { attestation } = config;
  const otherTpm = roots.gcpTpm.some((root) => root.simulated);
  return {
    roots,
    collateral: vendorCollateral({
      roots,
      pccs: attestation.urls.pccs ?? config.pccs_url ?? process.env['PCCS_URL'],
      amdKds: attestation.urls.amd_kds,
      tpmHosts: attestation.urls.tpm_hosts,
      cacheDir: config.image_cache_dir,
      isPublic,
    }),
    platform: {
      // Google endorses no firmware of a simulated platform.
      gcpFirmwareEndorsement: attestation.firmware_endorsement ?? !otherTpm,
      gcpPcr0: attestation.gcp_pcr0,
      gcpMrtd: attestation.gcp_mrtd,
      nitroMaxAgeSeconds: attestation.nitro_max_age_seconds,
    },
  };
}

async function serve(config: Config, options: Omit<VerifyOptions, 'now'>): Promise<undefined> {
  const log = pino({ name: 'dstack-verifier' }, printableLog(pino.destination({ dest: 2, sync: true })));
  const simulated = simulatedRoots(options.roots);
  const server = createService({
    verify: options,
    now: () => Math.floor(Date.now() / 1000),
    maxConcurrency: config.max_concurrency,
    connections: {
      max: config.max_connections,
      maxPerNetwork: config.max_connections_per_address,
    },
    metrics: createMetrics(simulated),
    log: (fields, message) => log.info(fields, message),
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new VerifierError('io', `Cannot listen on ${config.address}:${config.port}: ${cause.message}`, {
          cause,
        }),
      ),
    );
    server.listen({ port: config.port, host: config.address, backlog: LISTEN_BACKLOG }, resolve);
  });
  log.info({ address: config.address, port: config.port, simulated: simulated > 0 }, 'Listening');
  const stop = (): void => {
    server.close();
    server.closeIdleConnections();
    // A client that still sends or reads by then is cut off.
    setTimeout(() => process.exit(EXIT.good), STOP_MS).unref();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  return undefined;
}

function simulatedRoots({ tdx, gcpTpm, nitro, nitroTpm, sevSnp }: TrustRoots): number {
  return [tdx, gcpTpm, nitro, nitroTpm, sevSnp.milan, sevSnp.genoa, sevSnp.turin]
    .flat()
    .filter((root) => root.simulated).length;
}
