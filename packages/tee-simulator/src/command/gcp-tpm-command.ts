import { writeFileAtomic } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { createGcp, type GcpBoot } from '../gcp/gcp-platform.ts';
import { readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';

/** `dstack-tee-simulator gcp-tpm`: makes a fresh software TPM one of GCE, once after each of its starts. */
export async function gcpTpmCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(argv, ['seed-file', 'tpm', 'event-log', 'machine', 'image'], []);
  const tpm = args.required('tpm');
  const eventLog = args.required('event-log');
  const machine = args.text('machine');
  const gcp = createGcp(await readSeed(args.required('seed-file')));
  let boot: GcpBoot;
  try {
    boot = await gcp.boot(tpm, {
      image: args.text('image') ?? 'dstack-simulated',
      ...(machine === undefined ? {} : { machine }),
    });
    await writeFileAtomic(eventLog, boot.eventLog);
  } catch (cause) {
    throw new SimulatorError('state', (cause as Error).message, { cause });
  }
  const { certChainPem, crls, rootCaCrl } = gcp.collateral(Math.floor(Date.now() / 1000));
  const document = {
    simulated: true,
    root_pem: gcp.rootPem,
    vm_config: boot.vmConfig,
    ak_cert: toHex(boot.akCertificate),
    collateral: {
      cert_chain_pem: certChainPem,
      crls: crls.map(toHex),
      root_ca_crl: rootCaCrl ? toHex(rootCaCrl) : null,
    },
  };
  process.stdout.write(`${JSON.stringify(document)}\n`);
}
